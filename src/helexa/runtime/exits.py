"""Why a child ended, read off its status and its last words.

Each engine has its own way of saying so; what they share - signals, a line fit for a
terminal - is here.
"""

from __future__ import annotations

import re
import signal
from collections.abc import Sequence
from typing import Final, TypeAlias

from helexa.runtime.contract import Exit, ExitReason, Requirement

DETAIL_CHARS_MAX: Final = 500

Phrases: TypeAlias = Sequence[tuple[re.Pattern[str], ExitReason]]
"""In the order in which they decide."""


def explained(
    status: int, log_tail: str, phrases: Phrases, *, without: re.Pattern[str] | None = None
) -> Exit:
    """`without` is what stands before every line of that engine, such as a time."""
    lines = [_printable(line) for line in log_tail.splitlines() if line.strip()]
    if without is not None:
        lines = [without.sub("", line) for line in lines]
    for pattern, reason in phrases:
        for line in lines:
            if pattern.search(line):
                return Exit(reason=reason, detail=line[:DETAIL_CHARS_MAX])
    last = lines[-1][:DETAIL_CHARS_MAX] if lines else "it wrote nothing"
    if status == -signal.SIGTERM:
        return Exit(reason=ExitReason.STOPPED, detail="ended by SIGTERM")
    if status == -signal.SIGKILL:
        # The kernel's out-of-memory killer sends the same signal and leaves no word here.
        return Exit(reason=ExitReason.KILLED, detail="killed by SIGKILL (perhaps by the kernel)")
    if status < 0:
        return Exit(
            reason=ExitReason.UNKNOWN,
            detail=f"ended by {_signal_name(-status)}; last words: {last}",
        )
    return Exit(reason=ExitReason.UNKNOWN, detail=f"exit status {status}; last words: {last}")


def not_installed(requirement: Requirement, where: str = "") -> Exit:
    """`where` is the environment that lacks it, empty for the neuron's own."""
    there = f" in {where}" if where else ""
    return Exit(
        reason=ExitReason.NOT_INSTALLED,
        detail=f"{requirement.module} is not installed{there}; install it with: "
        f"{requirement.install}",
    )


def _printable(line: str) -> str:
    # It is shown on terminals, and a child's words could rewrite them.
    return "".join(each for each in line.strip() if each.isprintable())


def _signal_name(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:  # Real-time signals between the first and the last have no name.
        return f"signal {number}"
