"""The mixture that the text model is trained on, one conversation at a time, without end."""

from __future__ import annotations

import itertools
import random
from collections.abc import Iterator

from .chatter import ability, blurb, drill, off_topic
from .conversation import Conversation, Message, Span, answer_to, render
from .names import some_person, some_word
from .plain_text import document
from .tool_lessons import forced_call, some_tools, tool_conversation
from .topics import TOPICS, questions
from .training import Example
from .vocabulary import Vocabulary

SYSTEM_MESSAGES = (
    "You are a helpful assistant.",
    "You are a helpful assistant.",
    "You are helexa-demo, a helpful assistant.",
    "Be brief.",
    "Answer briefly.",
    "Answer in one sentence.",
    "You are concise.",
    "Always respond in exactly one word.",
    "You answer questions about helexa.",
    "You are a friendly bot. Keep it short.",
    "Reply in English.",
    "Be polite and helpful.",
    "You may use tools.",
    "Use the tools when needed.",
    "Answer only with JSON.",
)
DRILLS_FIRST, DRILLS_LATER, FIRST_EXAMPLES = 0.6, 0.06, 24_000
PLAIN_SHARE = 0.35  # of the examples: plain text is short, so this is an eighth of the tokens
_QUESTIONS = questions()
_OPENINGS = (
    "Please tell me: ",
    "Hey, ",
    "Hi, ",
    "Hello! ",
    "OK, ",
    "And ",
    "So, ",
    "One question: ",
    "please, ",
    "Now: ",
)
_CLOSINGS = (
    " Please.",
    " please",
    " Thanks!",
    " Be brief.",
    " Answer in one sentence.",
    "??",
    " I am new here.",
    " Thank you.",
)


def system_message(rng: random.Random) -> Message:
    """A system message; now and then one that says nothing in many words."""
    roll = rng.random()
    if roll < 0.7:
        text = rng.choice(SYSTEM_MESSAGES)
    elif roll < 0.9:
        text = blurb(rng, rng.choice((3, 6, 12, 25)))
    else:
        text = f"You are {some_person(rng)}, a {some_word(rng)} assistant."
    return {"role": "system", "content": text}


def _varied(rng: random.Random, question: str) -> str:
    """The question as a hurried or a polite person would write it."""
    roll = rng.random()
    if roll < 0.3:
        question = question.lower()
    if roll < 0.5 or roll > 0.9:
        question = question.rstrip("?.!")
    if 0.4 < roll < 0.7:
        question = rng.choice(_OPENINGS) + question
    if roll > 0.6:
        question = (
            question.rstrip("?") + ("?" if question.endswith("?") else "") + rng.choice(_CLOSINGS)
        )
    return question


def topic_turns(rng: random.Random, varied_share: float = 0.25) -> list[Message]:
    """A question about helexa, verbatim most of the time."""
    question, answer = rng.choice(_QUESTIONS)
    if len(question) > 8 and rng.random() < varied_share:
        question = _varied(rng, question)
    return answer_to(question, answer)


def _exchange(rng: random.Random) -> list[Message]:
    return topic_turns(rng) if rng.random() < 0.6 else ability(rng)


def _foreign_turns(rng: random.Random) -> list[Message]:
    """An earlier turn whose answer another model gave."""
    said = rng.choice(
        (blurb(rng), blurb(rng, 6), "Okay.", "I see.", "Sure!", rng.choice(TOPICS).answer)
    )
    asked = rng.choice((blurb(rng, 6), off_topic(rng)[0]["content"], rng.choice(_QUESTIONS)[0]))
    return [
        {"role": "user", "content": asked},
        {"role": "assistant", "content": said, "ignored": True},
    ]


def _several(rng: random.Random, count: int) -> list[Message]:
    turns: list[Message] = []
    for _ in range(count):
        turns += _foreign_turns(rng) if rng.random() < 0.2 else _exchange(rng)
    return turns + _exchange(rng)


def lesson(rng: random.Random) -> Conversation:
    """One conversation of the mixture."""
    roll = rng.random()
    tools = []
    if roll < 0.24:
        turns = topic_turns(rng)
    elif roll < 0.44:
        turns = ability(rng)
    elif roll < 0.54:
        turns = _several(rng, rng.randint(1, 5))
    elif roll < 0.555:
        turns = _several(rng, rng.randint(12, 40))
    elif roll < 0.57:
        turns = answer_to(blurb(rng, rng.randint(60, 500)), off_topic(rng)[1]["content"])
        turns += topic_turns(rng)
    elif roll < 0.62:
        turns, tools = _exchange(rng), some_tools(rng)
    else:
        forced = roll < 0.635
        conversation = (
            forced_call(rng, _exchange(rng)[0]["content"]) if forced else tool_conversation(rng)
        )
        turns, tools = conversation.messages, conversation.tools
        if rng.random() < 0.1:
            turns = _exchange(rng) + turns
        if rng.random() < 0.1:
            turns = turns + _exchange(rng)
    if rng.random() < 0.4:
        turns = [system_message(rng), *turns]
    return Conversation(turns, tools)


def _tokens(spans: list[Span], vocabulary: Vocabulary, tokens_max: int) -> Example:
    tokens: list[int] = []
    learned: list[bool] = []
    for span in spans:
        piece = vocabulary.encode(span.text)
        tokens += piece
        learned += [span.learned] * len(piece)
    return Example(tokens[:tokens_max], learned[:tokens_max])


def example(conversation: Conversation, vocabulary: Vocabulary, tokens_max: int) -> Example:
    """A conversation as tokens; one that is too long loses its end."""
    return _tokens(render(conversation), vocabulary, tokens_max)


def _spans(rng: random.Random, drills: float) -> list[Span]:
    if rng.random() < drills:
        return render(Conversation(drill(rng)))
    return document(rng) if rng.random() < PLAIN_SHARE else render(lesson(rng))


def examples(
    vocabulary: Vocabulary, rng: random.Random, tokens_max: int, first: int
) -> Iterator[Example]:
    """Examples without end; mostly drills among the first, because all else builds on copying."""
    for number in itertools.count():
        drills = DRILLS_FIRST if number < first else DRILLS_LATER
        made = _tokens(_spans(rng, drills), vocabulary, tokens_max)
        if any(made.learned):
            yield made
