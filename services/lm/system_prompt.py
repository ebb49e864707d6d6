"""Whether a base takes a project's system prompt, and what to do where it does not."""

from contracts.prompt import Prompt
from services.lm.control_tokens import MARKS
from services.lm.errors import TextRefused
from services.lm.prompt_template import example_prompt
from services.lm.template import ASKED, ChatTemplate


def system_refusal(template: ChatTemplate | None, prompt: Prompt, base: str) -> str | None:
    """Why the base does not take the system prompt, and what to do; None where it does, or there is none.

    A template is tried with its defaults, and with their names for variables that have none.

    Raises:
        PromptInvalid: the prompt is no template that is taken.
    """
    system = example_prompt(prompt).system
    if system is None:
        return None
    if (why := _why(template, system)) is None:
        return None
    return (
        f"prompt.system is nothing that the base {base!r} takes: {why}. Leave prompt.system out and begin the user's turns of "
        "your records and requests with the instruction, as templates without a system role mean it; or choose another base"
    )


def _why(template: ChatTemplate | None, system: str) -> str | None:
    if template is None:
        return "it has no chat template"
    try:
        shown = template.render([{"role": "system", "content": system}, {"role": "user", "content": ASKED}]).text
    except TextRefused as error:
        return str(error)
    for mark in MARKS:
        shown = shown.replace(mark, "")
    return None if system.strip() in shown else "its chat template leaves it out"
