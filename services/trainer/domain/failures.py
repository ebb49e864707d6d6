"""Why a run ends without a model, beside what services.chassis.jobs.failures tells of any job.

JobFailed
`- TrainingFailed (code `internal`)
   |- EmptyDataset         empty_dataset     no row has a token to learn from
   |- OneSidedDataset      one_sided_dataset kto has answers of one label alone
   |- BaseNotFound         base_not_found    neither the catalogue, nor a directory, nor a hub has the base
   |- BaseInvalid          base_invalid      the base lies there, but is no model that can be trained
   |- BadRecipe            bad_recipe        the recipe asks for what this base does not have
   |- LossNotFinite        loss_not_finite   NaN or infinity: the run has diverged
   |- HubUnavailable       hub_unavailable   the hub does not answer: tried again
   `- Cancelled            cancelled         somebody asked for it; the checkpoint stays
"""

from collections.abc import Mapping

from services.chassis.errors import JobFailed
from services.lm import errors as lm


class TrainingFailed(JobFailed):
    """Base of the tree: `code` is a stable word, the message says what was wrong, where, and what to do."""

    code = "internal"

    def __init__(self, detail: str) -> None:
        super().__init__(type(self).code, detail)


class EmptyDataset(TrainingFailed):
    """No row has a token to learn from."""

    code = "empty_dataset"


class OneSidedDataset(TrainingFailed):
    """Answers of one label alone: there is nothing to prefer."""

    code = "one_sided_dataset"


class BaseNotFound(TrainingFailed):
    """The base is nowhere to be had."""

    code = "base_not_found"


class BaseInvalid(TrainingFailed):
    """The base is no model that can be trained here."""

    code = "base_invalid"


class BadRecipe(TrainingFailed):
    """The recipe does not fit the base."""

    code = "bad_recipe"


class LossNotFinite(TrainingFailed):
    """The loss is NaN or infinite."""

    code = "loss_not_finite"


class HubUnavailable(TrainingFailed):
    """The hub of base models does not answer, or answers with an error of its own."""

    code = "hub_unavailable"


class Cancelled(TrainingFailed):
    """The run was asked to stop."""

    code = "cancelled"


def of_base(error: lm.LanguageModelError) -> TrainingFailed:
    """What is wrong with a base, as a run's failure."""
    if isinstance(error, lm.HubUnavailable):
        return HubUnavailable(str(error))
    return BaseNotFound(str(error)) if isinstance(error, lm.BaseNotFound) else BaseInvalid(str(error))


ADVICE: Mapping[str, str] = {
    "out_of_memory": "lower train.batch_size or train.max_length, choose a smaller base, or give the machine more memory",
    "killed": "lower train.batch_size or train.max_length, choose a smaller base, or give the machine more memory",
    "dataset_unavailable": "restore the artifact and retry the run, or freeze the dataset again",
}
"""By a failure's code: what a person can do about it."""
