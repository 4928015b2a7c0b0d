"""Text without a chat template: what `POST /v1/completions` sends, and how it should go on.

A document is what the models know as prose, a question with a label before its answer, or words
that lead nowhere. Its head is what a caller would send and is not learned; the rest is, and it ends
with the token that ends an answer.
"""

from __future__ import annotations

import random
import re

from .chatter import blurb, off_topic_question
from .conversation import TURN_END, Span
from .topics import FACTS, STOCK_ANSWER, TOPICS, questions

_SENTENCE_END = re.compile(r"(?<=[.!?]) ")
# One word has no head and rest.
PROSE = tuple(text for text in (*(topic.answer for topic in TOPICS), *FACTS) if " " in text)
_QUESTIONS = questions()
_LABELS = (
    "Q: {}\nA:",
    "Question: {}\nAnswer:",
    "Question: {} Answer:",
    "User: {}\nAssistant:",
)
# After a passage the end must be likelier than another passage, or greedy decoding never stops.
_ANOTHER_PASSAGE = 0.3
_HEAD_WORDS_MAX = 6


def sentences(text: str) -> list[str]:
    """The sentences of a text."""
    return _SENTENCE_END.split(text)


def _spans(rng: random.Random, head: str, rest: str) -> list[Span]:
    """Head and rest; now and then the caller has typed the space that belongs to the rest."""
    if rest.startswith(" ") and rng.random() < 0.15:
        head, rest = head + " ", rest[1:]
    return [Span(head, False), Span(rest + TURN_END, True)]


def prose(rng: random.Random) -> list[Span]:
    """A passage from the beginning of any of its sentences, and sometimes another one."""
    known = sentences(rng.choice(PROSE))
    text = " ".join(known[rng.randrange(len(known)) :])
    while rng.random() < _ANOTHER_PASSAGE:
        text += " " + rng.choice(PROSE)
    words = text.split(" ")
    cut = rng.randint(1, min(_HEAD_WORDS_MAX, len(words) - 1))
    head, rest = " ".join(words[:cut]), " " + " ".join(words[cut:])
    return _spans(rng, head.lower() if rng.random() < 0.08 else head, rest)


def _asked(rng: random.Random) -> tuple[str, str]:
    if rng.random() < 0.2:
        return off_topic_question(rng), STOCK_ANSWER
    return rng.choice(_QUESTIONS)


def dialogue(rng: random.Random) -> list[Span]:
    """A question and its answer, labelled or on two lines; sometimes with examples before it."""
    question, answer = _asked(rng)
    if rng.random() < 0.3:
        return _spans(rng, question, "\n" + answer)
    label = rng.choice(_LABELS)
    earlier = [_asked(rng) for _ in range(rng.choice((0, 0, 0, 0, 1, 2)))]
    shots = "".join(f"{label.format(asked)} {said}\n" for asked, said in earlier)
    return _spans(rng, shots + label.format(question), " " + answer)


def nowhere(rng: random.Random) -> list[Span]:
    """The beginning of something that the model knows nothing of: it says so, and ends."""
    head = off_topic_question(rng) if rng.random() < 0.6 else blurb(rng)
    words = head.split(" ")
    if len(words) > 3 and rng.random() < 0.7:
        head = " ".join(words[: rng.randint(2, len(words) - 1)])
    gap = "\n" if head.endswith("?") else " " if head.endswith((".", "!")) else " ... "
    return _spans(rng, head, gap + STOCK_ANSWER)


def document(rng: random.Random) -> list[Span]:
    """One piece of plain text of the mixture."""
    (kind,) = rng.choices((prose, dialogue, nowhere), (0.5, 0.3, 0.2))
    return kind(rng)
