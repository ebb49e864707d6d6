"""The form in which each endpoint answers."""

from collections.abc import Mapping

from services.serving.domain.answers import Form
from services.serving.domain.asked import Endpoint
from services.serving.domain.choice_answers import CHAT, COMPLETIONS
from services.serving.domain.responses_answer import RESPONSES

FORMS: Mapping[Endpoint, Form] = {"chat.completions": CHAT, "completions": COMPLETIONS, "responses": RESPONSES}
