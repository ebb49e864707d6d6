"""Why a candidate cannot be measured, beside what services.chassis.jobs.failures tells of any job.

JobFailed
`- EvaluationFailed (code `internal`)
   |- EmptyHeldOut      empty_held_out    the split has no row that can be measured
   |- ModelMissing      model_missing     files of the candidate, champion or base are lost, or damaged
   |- ModelInvalid      model_invalid     the files are there, but no model comes of them
   `- LossNotFinite     loss_not_finite   the candidate's weights give NaN or infinity
"""

from collections.abc import Mapping

from services.chassis.errors import JobFailed


class EvaluationFailed(JobFailed):
    """Base of the tree: `code` is a stable word, the message says what was wrong, where, and what to do."""

    code = "internal"

    def __init__(self, detail: str) -> None:
        super().__init__(type(self).code, detail)


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


ADVICE: Mapping[str, str] = {
    "out_of_memory": "lower serve.max_tokens, choose a smaller base, or give the machine more memory",
    "killed": "lower serve.max_tokens, choose a smaller base, or give the machine more memory",
}
"""By a failure's code: what a person can do about it."""
