"""The fairness run as a page, a plot and its values. Pure."""

from __future__ import annotations

import json
import statistics
from collections.abc import Mapping, Sequence
from typing import Any, Final

SHARE_MIN: Final = 0.9
WAIT_MAX: Final = 2.0
HOW: Final = """\
Written by `make bench-fairness`; how it measures is in `benchmarks/fairness.py`. Nine accounts ask
a real model, each for nine tenths of a tenth of its pace; a tenth account asks for twenty times as
much as each of them. In the last two rows all ask for more than they can get. A share of 1 is all
that an account asked for, or a tenth of what all got. Queue times are those of the nine."""
COLUMNS: Final = (
    "least share of the nine",
    "mean share of the nine",
    "share of the greedy one",
    "queue p50",
    "queue p99",
    "answer p99",
    "refused of the nine",
)
PHASES: Final = (
    "fair, alone",
    "fair, with greedy",
    "fifo, with greedy",
    "fair, all ask for more",
    "fifo, all ask for more",
)
_WORDS: Final = {
    "fair, alone": "nine alone",
    "fair, with greedy": "nine and the greedy one, fair",
    "fifo, with greedy": "the same, first come, first served",
    "fair, all ask for more": "all ask for more than they can get, fair",
    "fifo, all ask for more": "the same, first come, first served",
}


def shares(measured: Mapping[str, Any], phase: str) -> dict[str, float]:
    """By account: the part of its fair share that it got."""
    accounts = measured["phases"][phase]["accounts"]
    given = sum(one["got_tokens"] for one in accounts.values())
    # Alone they get all that they ask for: a tenth is what each could have with the greedy one.
    share = given / len(accounts) if "greedy" in accounts else float("inf")
    return {
        name: one["got_tokens"] / min(one["asked_tokens"], share)
        for name, one in accounts.items()
        if one["asked_tokens"]
    }


def waits(measured: Mapping[str, Any], phase: str, what: str = "waits_ms") -> tuple[float, float]:
    """p50 and p99 in milliseconds of the nine together."""
    accounts = measured["phases"][phase]["accounts"]
    found = sorted(wait for name, one in accounts.items() if name != "greedy" for wait in one[what])
    return _quantile(found, 0.5), _quantile(found, 0.99)


def worst(measured: Mapping[str, Any], phase: str) -> float:
    """The least of the shares of the nine."""
    return min(value for name, value in shares(measured, phase).items() if name != "greedy")


def markdown(measured: Mapping[str, Any], machine: Sequence[tuple[str, str]]) -> tuple[str, bool]:
    """The page, and whether the aims are met."""
    pace = measured["tokens_per_s"]["fair"]
    lines = [
        "# Fairness benchmark",
        "",
        HOW,
        "",
        f"The model gave {pace:.0f} tokens/s on {measured['slots']} slots beside such a flood.",
        "",
        "![Share of the fair share and queue time](fairness.svg)",
        "",
        "| | " + " | ".join(COLUMNS) + " |",
        "|---|" + "---:|" * len(COLUMNS),
    ]
    for phase in PHASES:
        of_all = shares(measured, phase)
        nine = [value for name, value in of_all.items() if name != "greedy"]
        p50, p99 = waits(measured, phase)
        answer_p99 = waits(measured, phase, "answers_ms")[1]
        refused = sum(
            one["refused"]
            for name, one in measured["phases"][phase]["accounts"].items()
            if name != "greedy"
        )
        greedy = f"{of_all['greedy']:.2f}" if "greedy" in of_all else ""
        lines.append(
            f"| {_WORDS[phase]} | {min(nine):.2f} | {statistics.fmean(nine):.2f} | {greedy} "
            f"| {p50:,.0f} ms | {p99:,.0f} ms | {answer_p99:,.0f} ms | {refused} |"
        )
    aims = verdicts(measured)
    lines += ["", "## Aims", "", "| aim | wanted | measured | met |", "|---|---:|---:|---|"]
    for words, wanted, value, met in aims:
        lines.append(f"| {words} | {wanted} | {value} | {'yes' if met else 'no'} |")
    lines += ["", "## Machine", "", "| | |", "|---|---|"]
    lines += [f"| {name} | {value} |" for name, value in machine]
    return "\n".join(lines) + "\n", all(met for *_, met in aims)


def verdicts(measured: Mapping[str, Any]) -> list[tuple[str, str, str, bool]]:
    """Aim, bound, value, whether it is met."""
    found = []
    for phase in ("fair, with greedy", "fair, all ask for more"):
        least = worst(measured, phase)
        found.append(
            (
                f"least share of the nine: {_WORDS[phase]}",
                f"at least {SHARE_MIN}",
                f"{least:.2f}",
                least >= SHARE_MIN,
            )
        )
    alone, beside = waits(measured, "fair, alone")[1], waits(measured, "fair, with greedy")[1]
    ratio = beside / alone if alone else float("inf")
    found.append(
        (
            "p99 queue time of the nine beside the greedy one, to that without it",
            f"at most {WAIT_MAX:g}",
            f"{ratio:.2f}",
            ratio <= WAIT_MAX,
        )
    )
    return found


def svg(measured: Mapping[str, Any]) -> str:
    """Two groups of bars: the least share of the nine, and their queue time."""
    least = [(phase, worst(measured, phase)) for phase in PHASES]
    p99 = [(phase, waits(measured, phase)[1] / 1000) for phase in PHASES]
    parts: list[str] = []
    y = 20
    for title, rows, form, mark in (
        ("Least part of its fair share that one of the nine got", least, "{:.2f}", SHARE_MIN),
        ("p99 queue time of the nine, seconds", p99, "{:.2f} s", None),
    ):
        y = _bars(parts, y, title, rows, form, mark)
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" width="760" height="{y}" viewBox="0 0 760 {y}" '
        'font-family="system-ui, sans-serif" font-size="13" role="img" '
        'aria-label="Fair share and queue time of nine accounts beside a greedy one">'
        '<rect width="100%" height="100%" fill="#ffffff"/>' + "".join(parts) + "</svg>\n"
    )


def raw(measured: Mapping[str, Any]) -> str:
    """Every value, queue times rounded to milliseconds."""
    # Each account on a line: thousands of lines with a number each are nothing to read.
    text = json.dumps(measured)
    return text.replace('"account-', '\n"account-').replace('"greedy"', '\n"greedy"') + "\n"


def _bars(
    parts: list[str],
    y: int,
    title: str,
    rows: Sequence[tuple[str, float]],
    form: str,
    mark: float | None,
) -> int:
    left, row, bar_max = 290, 22, 380
    scale = bar_max / (max(value for _, value in rows) * 1.1 or 1)
    parts.append(f'<text x="10" y="{y + 4}" font-weight="600">{title}</text>')
    y += row
    top = y - 12
    for phase, value in rows:
        colour = "#2563eb" if phase.startswith("fair") else "#9ca3af"
        name = ", ".join((_WORDS[phase].removeprefix("the same, "), phase.split(", ")[1]))
        name = _WORDS[phase] if phase.startswith("fair") else name
        parts.append(
            f'<text x="{left - 8}" y="{y + 4}" text-anchor="end">{name}</text>'
            f'<rect x="{left}" y="{y - 9}" width="{value * scale:.1f}" height="16" rx="2" '
            f'fill="{colour}"/>'
            f'<text x="{left + value * scale + 6:.1f}" y="{y + 4}">{form.format(value)}</text>'
        )
        y += row
    if mark is not None:
        at = left + mark * scale
        parts.append(
            f'<line x1="{at:.1f}" x2="{at:.1f}" y1="{top}" y2="{y - 12}" stroke="#111827" '
            'stroke-dasharray="3 3"/>'
        )
    return y + row // 2


def _quantile(values: Sequence[float], part: float) -> float:
    if not values:
        return 0.0
    return values[min(int(part * len(values)), len(values) - 1)]
