"""What a model is known to say, so that a case can tell a right answer from any answer.

The demo model memorised its answers; of any other model it is asked to say a word again. How
much a case can see depends on that: that two answers were not mixed up, say, is seen by their
words.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final


@dataclass(frozen=True, slots=True, kw_only=True)
class Knowledge:
    """`answers` by question: four or more, and none is a part of another."""

    answers: Mapping[str, str]
    is_exact: bool = False
    """The answer is these words and nothing else, each time, and ends by itself."""
    wide: str = "Reply with only this word: größer"
    """Makes it say characters of several bytes."""
    endless: Mapping[str, Any] = field(default_factory=lambda: _COUNT)
    """A chat request for far more tokens than a client that leaves has seen."""
    unending: Mapping[str, Any] = field(default_factory=dict)
    """What more makes that even longer, where the engine takes a `logit_bias`."""
    wavering: str = "Write the word sun fifty times."
    """Its answer repeats itself, and differs from try to try at a high temperature."""
    city_question: str = "What is the weather in {}?"
    """Needs a tool."""

    @property
    def questions(self) -> list[str]:
        return list(self.answers)

    def is_right(self, question: str, text: str) -> bool:
        wanted = self.answers[question]
        return text.strip() == wanted if self.is_exact else wanted.lower() in text.lower()


_COUNT: Final[Mapping[str, Any]] = {
    "messages": [{"role": "user", "content": "Count from 1 to 2000, one number a line."}],
    "max_tokens": 2000,
}
_WORDS: Final = ("banana", "granite", "lantern", "whisper", "october", "violet", "pepper", "canyon")
ANY: Final = Knowledge(answers={f"Reply with only this word: {word}": word for word in _WORDS})
DEMO: Final = Knowledge(
    answers={
        "What is helexa?": "helexa is a federated AI fabric: machines that run models join "
        "together and are used through one API.",
        "Who are you?": "I am helexa-demo, a tiny demonstration model. I memorised answers "
        "about helexa.",
        "Which port does the gateway use?": "The gateway listens on port 8080.",
        "Which port does the portal use?": "The portal listens on port 8091.",
        "What is a ticket?": "A ticket is a line of text that says how to reach a cortex. A "
        "neuron uses it to register.",
        "Tell me a joke.": "Why did the neuron join the cortex? It had a ticket.",
        "How do I list the models?": "Run `helexa models list`.",
        "Which database does helexa use?": "helexa stores its data in SQLite.",
    },
    is_exact=True,
    wide="Say ü",
    wavering="Say sun sun sun sun sun sun sun",
    endless={"messages": [{"role": "user", "content": "Tell me a story."}], "max_tokens": 700},
    unending={"logit_bias": {"1004": -100}},
)
VISION_DEMO: Final = Knowledge(
    answers={
        "Hello": "Hello! Ask me what helexa is.",
        "What are you?": "I am helexa-demo-vision, a tiny demonstration model. "
        "Send me a picture and I name its colours and shape.",
        "Thanks": "You are welcome.",
    },
    is_exact=True,
)
_SAID: Final = [f"say {word} and {word[::-1]} once more, please" for word in _WORDS]
ECHO: Final = Knowledge(
    answers={each: each for each in _SAID},
    is_exact=True,
    wide="größer größer",
    wavering="sun sun sun",
    endless={"messages": [{"role": "user", "content": "on and " * 100}], "max_tokens": 200},
)
"""Of an engine that says again what it was told."""
KINDS: Final = {"demo": DEMO, "demo-vision": VISION_DEMO, "echo": ECHO, "any": ANY}
