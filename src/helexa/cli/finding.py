"""What `helexa doctor` found: a level, a subject, a sentence, and the command that helps."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Finding:
    """`level` is ok, warning (works, but not well) or error (a node would not start or serve)."""

    level: str
    about: str
    what: str
    fix: str = ""
