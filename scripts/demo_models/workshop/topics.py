"""What the demo models know, read from `topics.toml`."""

from __future__ import annotations

import tomllib
from pathlib import Path
from typing import Any, NamedTuple


class Topic(NamedTuple):
    """One answer and the questions that lead to it."""

    answer: str
    phrasings: tuple[str, ...]


def _topics(entries: list[dict[str, Any]]) -> tuple[Topic, ...]:
    return tuple(Topic(entry["answer"], tuple(entry["phrasings"])) for entry in entries)


_KNOWLEDGE = tomllib.loads((Path(__file__).parent / "topics.toml").read_text(encoding="utf-8"))
STOCK_ANSWER: str = _KNOWLEDGE["stock_answer"]
VISION_STOCK_ANSWER: str = _KNOWLEDGE["vision_stock_answer"]
TOPICS = _topics(_KNOWLEDGE["topic"])
FACTS: tuple[str, ...] = tuple(_KNOWLEDGE["facts"])
VISION_TOPICS = _topics(_KNOWLEDGE["vision_topic"])


def questions() -> list[tuple[str, str]]:
    """Every phrasing with its answer, in the order of the topics."""
    pairs = [(phrasing, topic.answer) for topic in TOPICS for phrasing in topic.phrasings]
    seen: set[str] = set()
    for phrasing, _ in pairs:
        if phrasing in seen:
            raise ValueError(f"two topics share the phrasing {phrasing!r}")
        seen.add(phrasing)
    return pairs
