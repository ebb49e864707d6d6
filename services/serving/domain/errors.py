"""Errors of the gateway in OpenAI's shape. Knows no web framework.

ApiFault
├── Invalid             400 invalid_request_error, with the parameter
├── TooLarge            413
├── UnsupportedEncoding 415
├── ModelNotFound       404 model_not_found
├── PromptNotFound      404 prompt_not_found
├── UnknownUrl          404 unknown_url
├── TeacherFailed       502: the teacher's answer is an error, or none that can be read
└── Unavailable         503 with Retry-After: Triton is away, the model is loading, the record cannot be written
    ├── Overloaded      503: the answer would begin too late
    ├── ShareFull       429: it would not, but for what the same key has at work
    ├── TeacherAway     503: the teacher is not set up here, does not answer, or is left alone for a while
    ├── TeacherBusy     429: it takes no more requests now, or the day's budget for it is spent
    ├── Cut             503: the answer took longer than any may
    └── ReaderStalled   the client reads nothing: it gets no further byte

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


class UnsupportedEncoding(ApiFault):
    """The request's body is encoded in a way that is not taken."""

    status = 415
    kind = "invalid_request_error"


class ModelNotFound(ApiFault):
    """No such project, or no such version of it is deployed."""

    status = 404
    kind = "invalid_request_error"

    def __init__(self, message: str) -> None:
        super().__init__(message, code="model_not_found", param="model")


class PromptNotFound(ApiFault):
    """The project has no such prompt, or no such version of it."""

    status = 404
    kind = "invalid_request_error"

    def __init__(self, message: str, param: str) -> None:
        super().__init__(message, code="prompt_not_found", param=param)


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


class Overloaded(Unavailable):
    """Too much is at work, whosever it is."""

    def __init__(self, message: str, retry_after: int) -> None:
        super().__init__(f"The model is busy: {message}. Try again in {retry_after} s.", "overloaded", retry_after)


class ShareFull(Unavailable):
    """The caller's own share of the model is what is full."""

    status = 429
    kind = "rate_limit_error"

    def __init__(self, message: str, retry_after: int) -> None:
        text = f"Your share of the model is in use: {message}. Try again in {retry_after} s."
        super().__init__(text, "share_in_use", retry_after)


class TeacherFailed(ApiFault):
    """The project's teacher answered with an error, or with what is no answer."""

    status = 502


class TeacherAway(Unavailable):
    """The project's teacher cannot be asked, or does not answer."""


class TeacherBusy(Unavailable):
    """The project's teacher takes no more requests now, or no more are paid for."""

    status = 429
    kind = "rate_limit_error"


class Cut(Unavailable):
    """An answer that was ended before its end; what there was of it is recorded as cancelled."""


class ReaderStalled(Cut):
    """The client reads nothing, so that nothing can be told it either."""

    def __init__(self, seconds: float) -> None:
        super().__init__(f"The client read nothing for {seconds:g} s.", "reader_stalled")


def error_body(fault: ApiFault) -> dict[str, Any]:
    """The JSON body of an error answer."""
    return {"error": {"message": fault.message, "type": fault.kind, "param": fault.param, "code": fault.code}}
