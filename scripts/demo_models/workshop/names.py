"""Places, people and words to copy: known ones, held-out ones, and endless made-up ones.

A model that has only ever seen Paris learns to write Paris. Made-up names force it to learn to
copy instead, which is what a tool call needs.
"""

from __future__ import annotations

import random
import re
import tomllib
from pathlib import Path

_LISTS = tomllib.loads((Path(__file__).parent / "names.toml").read_text(encoding="utf-8"))
CITIES = tuple(_LISTS["cities"])
HELD_OUT_CITIES = tuple(_LISTS["held_out_cities"])
PEOPLE = tuple(_LISTS["people"])
WORDS = tuple(_LISTS["words"])
_ONSETS, _VOWELS, _CODAS = _LISTS["onsets"], _LISTS["vowels"], _LISTS["codas"]
_TAILS, _PREFIXES, _SUFFIXES = _LISTS["tails"], _LISTS["prefixes"], _LISTS["suffixes"]

_KNOWLEDGE_TEXT = (Path(__file__).parent / "topics.toml").read_text(encoding="utf-8")
_REAL_WORDS = sorted(
    {word for name in (*CITIES, *PEOPLE, *WORDS) for word in name.lower().split()}
    | set(re.findall(r"[a-z]{4,}", _KNOWLEDGE_TEXT.lower()))
)


def made_up_word(rng: random.Random, syllables: int) -> str:
    """A lower-case word that is in no dictionary: of syllables, or of pieces of real words.

    The pieces bring in the tokens that only real words have; else those would not be copied well.
    """
    if rng.random() < 0.4:
        return "".join(_piece(rng) for _ in range(max(2, syllables)))
    return "".join(
        rng.choice(_ONSETS) + rng.choice(_VOWELS) + rng.choice(_CODAS) for _ in range(syllables)
    )


def _piece(rng: random.Random) -> str:
    word = rng.choice(_REAL_WORDS)
    start = rng.randrange(max(1, len(word) - 2))
    return word[start : start + rng.randint(2, 5)]


def made_up_city(rng: random.Random) -> str:
    """A name that looks like a city and almost surely was never seen."""
    name = (made_up_word(rng, rng.choice((1, 2, 2, 3))) + rng.choice(_TAILS)).capitalize()
    roll = rng.random()
    if roll < 0.12:
        return f"{rng.choice(_PREFIXES)} {name}"
    if roll < 0.18:
        return f"{name} {rng.choice(_SUFFIXES)}"
    if roll < 0.22:
        return f"{name} {made_up_word(rng, 2).capitalize()}"
    return name


def some_city(rng: random.Random) -> str:
    """A city for training: mostly made up, sometimes real, now and then in lower case."""
    city = rng.choice(CITIES) if rng.random() < 0.35 else made_up_city(rng)
    return city.lower() if rng.random() < 0.06 else city


def some_word(rng: random.Random) -> str:
    """A word to echo: known or made up."""
    word = rng.choice(WORDS) if rng.random() < 0.4 else made_up_word(rng, rng.choice((1, 2, 2, 3)))
    roll = rng.random()
    if roll < 0.15:
        return word.capitalize()
    return word.upper() if roll < 0.2 else word


def some_person(rng: random.Random) -> str:
    """A first name: known or made up."""
    return rng.choice(PEOPLE) if rng.random() < 0.5 else made_up_word(rng, 2).capitalize()
