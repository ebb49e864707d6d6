"""The names that Triton's Python stub gives a backend, as far as this project uses them."""

from typing import Any

from numpy.typing import NDArray

TRITONSERVER_RESPONSE_COMPLETE_FINAL: int

class TritonError:
    INTERNAL: int
    INVALID_ARG: int
    CANCELLED: int
    UNAVAILABLE: int
    def __init__(self, message: str, code: int = ...) -> None: ...

class Tensor:
    def __init__(self, name: str, value: NDArray[Any]) -> None: ...
    def as_numpy(self) -> NDArray[Any]: ...

class InferenceResponse:
    def __init__(self, output_tensors: list[Tensor], error: TritonError | None = None) -> None: ...

class Logger:
    @staticmethod
    def log_error(message: str) -> None: ...
    @staticmethod
    def log_info(message: str) -> None: ...

def get_input_tensor_by_name(request: Any, name: str) -> Tensor | None: ...
def get_model_dir() -> str: ...
