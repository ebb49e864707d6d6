"""Why a candidate cannot be measured. Knows nothing of how a failure is told.

EvaluationFailed (code `internal`)
|- EmptyHeldOut      empty_held_out    the split has no row that can be measured
|- ModelMissing      model_missing     files of the candidate, champion or base are not to be had, or damaged
|- ModelInvalid      model_invalid     the files are there, but no model comes of them
|- LossNotFinite     loss_not_finite   the candidate's weights give NaN or infinity
`- OutOfMemory       out_of_memory     of the device or the machine
"""


class EvaluationFailed(Exception):
    """Base of the tree: `code` is a stable word, the message says what was wrong, where, and what to do."""

    code = "internal"


class EmptyHeldOut(EvaluationFailed):
    """The split has no row that can be measured."""

    code = "empty_held_out"


class ModelMissing(EvaluationFailed):
    """Files are not in the artifact store, or not as they were written."""

    code = "model_missing"


class ModelInvalid(EvaluationFailed):
    """The files are no model that this service can load."""

    code = "model_invalid"


class LossNotFinite(EvaluationFailed):
    """The loss of an example is NaN or infinite."""

    code = "loss_not_finite"


class OutOfMemory(EvaluationFailed):
    """The device or the machine has no memory left."""

    code = "out_of_memory"


def classify(error: BaseException) -> EvaluationFailed:
    """The failure that `error` means; one of the tree is returned as it is.

    Torch on CPU raises a plain RuntimeError when an allocation fails, hence the look at its text.
    """
    text = f"{type(error).__name__}: {error}"
    if isinstance(error, EvaluationFailed):
        return error
    if (
        isinstance(error, MemoryError)
        or "OutOfMemory" in text
        or "not enough memory" in text
        or "allocate memory" in text
    ):
        return OutOfMemory(f"{text[:500]}; lower serve.max_tokens or choose a smaller base")
    return EvaluationFailed(text[:2000])
