"""What a verb's file offers, and the ways a verb can fail."""

from __future__ import annotations

from argparse import ArgumentParser, Namespace
from typing import Protocol


class Verb(Protocol):
    SUMMARY: str
    """One line for the list of verbs."""
    EXAMPLE: str
    """Command lines that work as they stand, shown under `--help`."""

    def configure(self, parser: ArgumentParser) -> None: ...

    def run(self, args: Namespace) -> int:
        """Do it; returns the exit status. Heavy imports belong in here."""
        ...


class Failed(Exception):
    """The verb could not do what was asked. One line that says why and, if known, what helps."""


class Misused(Failed):
    """The flags do not go together; the exit status is that of a command line unread."""
