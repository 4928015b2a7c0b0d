"""Which protocol versions this build speaks, and how two nodes agree on one."""

from __future__ import annotations

from typing import Final, NamedTuple

VERSION_MIN: Final = 1
VERSION: Final = 1


class VersionRange(NamedTuple):
    lowest: int
    highest: int

    def __str__(self) -> str:
        return f"{self.lowest}..{self.highest}"


SPOKEN: Final = VersionRange(VERSION_MIN, VERSION)


def agree(ours: VersionRange, theirs: VersionRange) -> int | None:
    """The highest version in both ranges, or None when they do not overlap."""
    highest = min(ours.highest, theirs.highest)
    return highest if highest >= max(ours.lowest, theirs.lowest) else None
