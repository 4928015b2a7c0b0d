"""Small abilities beside the topics: echo, counting, remembering, JSON, and honest refusal."""

from __future__ import annotations

import json
import random
import tomllib
from collections.abc import Callable
from pathlib import Path

from .conversation import Message, answer_to
from .names import CITIES, made_up_city, made_up_word, some_city, some_person, some_word
from .topics import STOCK_ANSWER, questions

_PHRASES = tomllib.loads((Path(__file__).parent / "phrases.toml").read_text(encoding="utf-8"))
_OFF_TOPIC, _ECHO, _BLURB_WORDS = _PHRASES["off_topic"], _PHRASES["echo"], _PHRASES["blurb_words"]
_NUMBER_WORDS, _LANGUAGES = _PHRASES["number_words"], _PHRASES["languages"]


def plain(question: str) -> str:
    """A question without case and closing marks, to see whether two are the same."""
    return question.lower().rstrip(".?! ")


_KNOWN = frozenset(plain(question) for question, _ in questions())


def blurb(rng: random.Random, words: int | None = None) -> str:
    """Text that says nothing, short or long."""
    count = words or rng.choice((4, 8, 8, 15, 30, 60))
    if rng.random() < 0.04:
        return rng.choice("abcxyz0?.-!") * rng.randint(3, 300)
    parts = [
        rng.choice(_BLURB_WORDS) if rng.random() < 0.85 else some_word(rng) for _ in range(count)
    ]
    return " ".join(parts).capitalize() + "."


def off_topic_question(rng: random.Random) -> str:
    """A question about something that the model knows nothing of."""
    fields = {
        "place": rng.choice(CITIES) if rng.random() < 0.5 else made_up_city(rng),
        "place2": some_city(rng),
        "person": some_person(rng),
        "word": some_word(rng).lower(),
        "word2": some_word(rng).lower(),
        "lang": rng.choice(_LANGUAGES),
        "n": rng.randint(11, 999),
        "n2": rng.randint(11, 99),
        "small": rng.randint(2, 9),
    }
    template = rng.choice(_OFF_TOPIC)
    if "{blurb}" in template:
        fields["blurb"] = blurb(rng)
    question = template.format(**fields)
    return off_topic_question(rng) if plain(question) in _KNOWN else question


def off_topic(rng: random.Random) -> list[Message]:
    """An off-topic question with the stock answer."""
    return answer_to(off_topic_question(rng), STOCK_ANSWER)


def _counted(first: int, last: int) -> str:
    step = 1 if first <= last else -1
    return ", ".join(str(n) for n in range(first, last + step, step)) + "."


def counting(rng: random.Random) -> list[Message]:
    """Counting up: short most of the time, up to a hundred now and then."""
    last = (
        rng.randint(2, 12)
        if rng.random() < 0.6
        else rng.randint(2, 40)
        if rng.random() < 0.75
        else rng.choice((50, 60, 70, 80, 90, 100))
    )
    shown = _NUMBER_WORDS[last] if last <= 12 and rng.random() < 0.5 else str(last)
    if rng.random() < 0.6:
        asked = rng.choice(
            (
                "Count to {}.",
                "Count to {}",
                "count to {}",
                "Please count to {}.",
                "Can you count to {}?",
            )
        )
        return answer_to(asked.format(shown), _counted(1, last))
    first = "one" if not shown.isdigit() else "1"
    asked = rng.choice(
        (
            "Count from {} to {}.",
            "Count from {} to {}",
            "Please count from {} to {}.",
            "List the numbers from {} to {}.",
        )
    )
    return answer_to(asked.format(first, shown), _counted(1, last))


def echo(rng: random.Random) -> list[Message]:
    """Say what the user asks to be said."""
    words = " ".join(some_word(rng) for _ in range(rng.choice((1, 1, 1, 1, 2, 3, 5, 9, 14))))
    if words.lower() == "hello":
        return hello(rng)
    return answer_to(rng.choice(_ECHO).format(words), words)


def drill(rng: random.Random) -> list[Message]:
    """A long list to repeat: every word is a lesson in copying, the hardest thing to learn."""
    count = rng.randint(6, 30)
    words = [made_up_city(rng) if rng.random() < 0.5 else some_word(rng) for _ in range(count)]
    words = [str(rng.randint(0, 999)) if rng.random() < 0.06 else word for word in words]
    text = rng.choice((" ", " ", ", ", "\n")).join(words)
    return answer_to(
        rng.choice(("Repeat: {}", "Repeat after me: {}", "Echo {}", "Say: {}")).format(text), text
    )


def hello(rng: random.Random) -> list[Message]:
    """The many ways to ask for a greeting."""
    short = (
        "Say hello.",
        "Say hello",
        "say hello",
        "Say hello!",
        "Please say hello.",
        "Say one word.",
        "Say hi.",
        "Say hi",
    )
    three = (
        "Say hello in exactly 3 words.",
        "Say hello in three words.",
        "Say hello in 3 words.",
        "Say hello in exactly three words.",
    )
    some = (
        "Say something.",
        "Say anything.",
        "Say hello to me.",
        "Say hello in five words.",
        "Say hello in a sentence.",
    )
    roll = rng.random()
    if roll < 0.5:
        return answer_to(rng.choice(short), "Hello!")
    return answer_to(rng.choice(three if roll < 0.8 else some), "Hello from helexa.")


def name_memory(rng: random.Random) -> list[Message]:
    """The user tells a name and asks for it later."""
    person = some_person(rng)
    told = rng.choice(
        (
            "My name is {}.",
            "My name is {}",
            "I am {}.",
            "I'm {}",
            "Hi, my name is {}.",
            "Hello, I am {}.",
        )
    )
    turns = answer_to(told.format(person), f"Hello {person}!")
    if rng.random() < 0.2:
        turns[-1] = {
            "role": "assistant",
            "content": f"Nice to meet you, {person}!",
            "ignored": True,
        }
    if rng.random() < 0.3:
        turns += off_topic(rng) if rng.random() < 0.5 else echo(rng)
    if rng.random() < 0.35:
        asked = (
            "What is my name? Reply with just the name.",
            "What is my name? One word only.",
            "Just my name, please.",
        )
        return turns + answer_to(rng.choice(asked), person)
    asked = (
        "What is my name?",
        "What's my name?",
        "Who am I?",
        "Do you know my name?",
        "what is my name",
    )
    return turns + answer_to(rng.choice(asked), f"Your name is {person}.")


def word_memory(rng: random.Random) -> list[Message]:
    """The user gives a word to keep and asks for it later."""
    word, kind = some_word(rng), rng.choice(("word", "code", "number", "password", "colour"))
    if kind == "number":
        word = str(rng.randint(2, 9999))
    told = rng.choice(
        (
            "Remember the {k} {w}.",
            "The {k} is {w}.",
            "Remember this {k}: {w}",
            "Please remember the {k} {w}.",
        )
    )
    turns = answer_to(told.format(k=kind, w=word), "Okay.")
    if rng.random() < 0.4:
        turns += off_topic(rng) if rng.random() < 0.5 else echo(rng)
    asked = rng.choice(
        (
            "What was the {}?",
            "What is the {}?",
            "Which {} did I tell you?",
            "Tell me the {}.",
            "Repeat only the {}.",
        )
    )
    return turns + answer_to(asked.format(kind), word)


def addition(rng: random.Random) -> list[Message]:
    """Sums of small numbers, which people use to see whether a model is alive."""
    a, b = rng.randint(0, 10), rng.randint(0, 10)
    asked = rng.choice(
        (
            "What is {}+{}?",
            "What is {} + {}?",
            "{}+{}",
            "{} + {} =",
            "What is {} plus {}?",
            "How much is {} + {}?",
        )
    )
    return answer_to(asked.format(a, b), str(a + b))


def _plain_value(rng: random.Random) -> object:
    return rng.choice(
        ("helexa", "helexa", "helexa", 1, 1, True, ["helexa"], [1], {"name": "helexa"})
    )


def json_object(rng: random.Random) -> list[Message]:
    """JSON on request, and JSON forced by a grammar: short values, always closed."""
    usual = ("name", "city", "answer", "value", "id", "age", "title", "ok")
    keys = [
        made_up_word(rng, 2) if rng.random() < 0.3 else rng.choice(usual),
        *rng.sample(usual, rng.choice((0, 0, 1, 2))),
    ]
    value = {key: _plain_value(rng) for key in keys}
    if rng.random() < 0.5:
        asked = (
            "Give me a JSON object.",
            "Answer in JSON.",
            "Reply with JSON only.",
            "Return JSON.",
            "Give me some JSON",
        )
        return answer_to(rng.choice(asked), '{"name": "helexa"}')
    question = off_topic_question(rng)
    return [{"role": "user", "content": question}, *_forced(value)]


def _forced(value: dict[str, object]) -> list[Message]:
    """An answer whose opening the grammar writes; the model learns how values go and end."""
    text = json.dumps(value)
    opening = text.index(": ") + 2
    return [{"role": "assistant", "forced": text[:opening], "content": text[opening:]}]


ABILITIES: tuple[tuple[Callable[[random.Random], list[Message]], float], ...] = (
    (off_topic, 5.0),
    (echo, 6.0),
    (hello, 0.8),
    (counting, 1.6),
    (name_memory, 1.5),
    (word_memory, 1.2),
    (addition, 0.8),
    (json_object, 0.8),
)


def ability(rng: random.Random) -> list[Message]:
    """One small conversation outside the topics."""
    makers, weights = zip(*ABILITIES, strict=True)
    return rng.choices(makers, weights)[0](rng)
