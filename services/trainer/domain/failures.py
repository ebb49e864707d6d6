"""Why a run ends without a model. Knows nothing of how a failure is told.

TrainingFailed (code `internal`)
|- EmptyDataset         empty_dataset     no row has a token to learn from
|- BaseNotFound         base_not_found    neither the catalogue, nor a directory, nor a hub has the base
|- BaseInvalid          base_invalid      the base lies there, but is no model that can be trained
|- BadRecipe            bad_recipe        the recipe asks for what this base does not have
|- OutOfMemory          out_of_memory     of the device or the machine
|- LossNotFinite        loss_not_finite   NaN or infinity: the run has diverged
|- DiskFull             disk_full
`- Cancelled            cancelled         somebody asked for it; the checkpoint stays
"""

import errno

from services.lm import errors as lm


class TrainingFailed(Exception):
    """Base of the tree: `code` is a stable word, the message says what was wrong, where, and what to do."""

    code = "internal"


class EmptyDataset(TrainingFailed):
    """No row has a token to learn from."""

    code = "empty_dataset"


class BaseNotFound(TrainingFailed):
    """The base is nowhere to be had."""

    code = "base_not_found"


class BaseInvalid(TrainingFailed):
    """The base is no model that can be trained here."""

    code = "base_invalid"


class BadRecipe(TrainingFailed):
    """The recipe does not fit the base."""

    code = "bad_recipe"


class OutOfMemory(TrainingFailed):
    """The device or the machine has no memory left."""

    code = "out_of_memory"


class LossNotFinite(TrainingFailed):
    """The loss is NaN or infinite."""

    code = "loss_not_finite"


class DiskFull(TrainingFailed):
    """No space is left where the run writes."""

    code = "disk_full"


class Cancelled(TrainingFailed):
    """The run was asked to stop."""

    code = "cancelled"


def classify(error: BaseException) -> TrainingFailed:
    """The failure that `error` means; one of the tree is returned as it is.

    Torch on CPU raises a plain RuntimeError when an allocation fails, hence the look at its text.
    """
    text = f"{type(error).__name__}: {error}"
    if isinstance(error, TrainingFailed):
        return error
    if isinstance(error, lm.LanguageModelError):
        return BaseNotFound(str(error)) if isinstance(error, lm.BaseNotFound) else BaseInvalid(str(error))
    if isinstance(error, MemoryError) or "OutOfMemory" in text or "not enough memory" in text:
        return OutOfMemory(f"{text[:500]}; lower train.batch_size or train.max_length, or choose a smaller base")
    full = isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT)
    if full or "No space left on device" in text:  # safetensors wraps the OSError into an error of its own
        return DiskFull(f"{text[:500]}; free space under NORIA_HOME and start the run again: it resumes")
    return TrainingFailed(text[:2000])
