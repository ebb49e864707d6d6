"""Errors of the gateway in OpenAI's shape. Knows no web framework.

ApiFault
├── Invalid             400 invalid_request_error, with the parameter
├── TooLarge            413
├── ModelNotFound       404 model_not_found
├── UnknownUrl          404 unknown_url
└── Unavailable         503 with Retry-After: Triton is away, the model is loading, the record cannot be written

Source of the shape: https://platform.openai.com/docs/guides/error-codes and the openai client's `_make_status_error`.
"""

from typing import Any


class ApiFault(Exception):
    """An answer that is an error. `status` is the HTTP status; `code` a stable word; `param` the field at fault."""

    status = 500
    kind = "server_error"

    def __init__(self, message: str, code: str | None = None, param: str | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.code = code
        self.param = param


class Invalid(ApiFault):
    """The request cannot be understood or asks for what is not offered."""

    status = 400
    kind = "invalid_request_error"


class TooLarge(ApiFault):
    """The request's body exceeds the limit."""

    status = 413
    kind = "invalid_request_error"


class ModelNotFound(ApiFault):
    """No such project, or no such version of it is deployed."""

    status = 404
    kind = "invalid_request_error"

    def __init__(self, message: str) -> None:
        super().__init__(message, code="model_not_found", param="model")


class UnknownUrl(ApiFault):
    """What OpenAI's API has and this one has not."""

    status = 404
    kind = "invalid_request_error"


class Unavailable(ApiFault):
    """The request was right; try again after `retry_after` seconds."""

    status = 503
    kind = "service_unavailable"

    def __init__(self, message: str, code: str, retry_after: int = 2) -> None:
        super().__init__(message, code=code)
        self.retry_after = retry_after


def error_body(fault: ApiFault) -> dict[str, Any]:
    """The JSON body of an error answer."""
    return {"error": {"message": fault.message, "type": fault.kind, "param": fault.param, "code": fault.code}}
