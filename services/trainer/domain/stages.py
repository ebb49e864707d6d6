"""The stages of a run: one recipe a method, and which of them have a reference. Pure."""

from contracts.project import Train
from contracts.training import check_method
from services.trainer.domain.failures import BadRecipe

REFERRED = frozenset({"dpo", "kto"})
"""Methods that keep near a reference: the model as it is when their stage begins."""


def stage_recipes(recipe: Train) -> list[Train]:
    """The recipe of each stage, with one method; preference stages have their own learning rate and epochs.

    Raises:
        BadRecipe: a method that this release does not know.
    """
    return [_stage(recipe, method) for method in recipe.methods]


def _stage(recipe: Train, method: str) -> Train:
    try:
        check_method(method)
    except ValueError as error:
        raise BadRecipe(f"train.stages: {error}") from error
    if method == "sft":
        return recipe.model_copy(update={"stages": ()})
    own = recipe.preference
    return recipe.model_copy(update={"stages": (method,), "learning_rate": own.learning_rate, "epochs": own.epochs})


def begins_at_champion(recipe: Train) -> bool:
    """Whether a run goes on from the champion: its first stage keeps near a reference. Others begin at the base."""
    return recipe.methods[0] in REFERRED
