"""The table and the plot of what survived."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import log10
from typing import TYPE_CHECKING, Any, Final

from benchmarks.survival_streams import TOKENS, Score

if TYPE_CHECKING:
    from benchmarks.survival import Case

GAP_P50_MS_MAX: Final = 100.0


@dataclass(frozen=True)
class Row:
    case: Case
    score: Score

    def gap_ms(self, share: float) -> float:
        gaps = sorted(self.score.gaps_s)
        return gaps[min(int(len(gaps) * share), len(gaps) - 1)] * 1000 if gaps else 0.0

    @property
    def met(self) -> bool:
        score, case = self.score, self.case
        ends = score.ended == score.streams and not score.twice
        same = not case.exact or score.same == score.streams
        quick = case.lent or self.gap_ms(0.5) <= GAP_P50_MS_MAX
        return ends and same and quick

    @property
    def raw(self) -> dict[str, Any]:
        score = self.score
        return {
            "case": self.case.name,
            "what": self.case.words,
            "at_once": self.case.at_once,
            "rounds": score.rounds,
            "streams": score.streams,
            "broken": score.broken,
            "ended": score.ended,
            "same": score.same,
            "broken_ended": score.broken_ended,
            "broken_same": score.broken_same,
            "counted_twice": score.twice,
            "gap_p50_ms": round(self.gap_ms(0.5), 1),
            "gap_p99_ms": round(self.gap_ms(0.99), 1),
            "gaps_ms": [round(gap * 1000, 1) for gap in sorted(score.gaps_s)],
            "errors": score.errors[:20],
        }


def rows(cases: Sequence[Case], scores: Mapping[str, Score]) -> list[Row]:
    return [Row(case, scores[case.name]) for case in cases if case.name in scores]


def markdown(found: Sequence[Row], machine: Sequence[tuple[str, str]], streams: int) -> str:
    how = (
        "Written by `make bench-survival`; how it measures is in `benchmarks/survival.py`. Each "
        f"stream is {TOKENS} tokens of the demo model, on one of three neurons of three operators. "
        "The neuron that serves most of a round's streams gets SIGKILL at a random token, if the "
        f"row says nothing else, until {streams} streams, or the part of them that a row needs, "
        "were broken and gone on with by another. The gap is the longest silence that a client of "
        "a broken stream saw from then on. What is the same is so to the byte, in text, as when "
        "the client is alone and nothing dies."
    )
    head = (
        "| | at a time | streams | broken | end normally | the same | of the broken ones the same "
        "| gap p50, ms | p99, ms | counted twice |"
    )
    lines = ["# Streams while nodes die", "", how, "", "![Gaps](survival.svg)", "", head]
    lines.append("|---|" + "---:|" * 9)
    for one in found:
        score = one.score
        gaps = (
            ("", "") if not score.gaps_s else (f"{one.gap_ms(0.5):.0f}", f"{one.gap_ms(0.99):.0f}")
        )
        lines.append(
            f"| {one.case.words} | {one.case.at_once} | {score.streams} | {score.broken} "
            f"| {_share(score.ended, score.streams)} | {_share(score.same, score.streams)} "
            f"| {_share(score.broken_same, len(score.gaps_s))} | {gaps[0]} | {gaps[1]} "
            f"| {score.twice} |"
        )
    lines += ["", "## Machine", "", "| | |", "|---|---|"]
    lines += [f"| {name} | {value} |" for name, value in machine]
    return "\n".join(lines) + "\n"


def _share(part: int, whole: int) -> str:
    return f"{part / whole:.1%}".replace(".0%", "%") if whole else ""


def svg(found: Sequence[Row]) -> str:
    """For each case, every gap as a dot on one logarithmic scale, and a stroke at the median."""
    shown = [one for one in found if one.score.gaps_s]
    left, right, row, top = 330, 700, 30, 40
    lowest, highest = 1.0, 10_000.0

    def x(ms: float) -> float:
        share = log10(min(max(ms, lowest), highest) / lowest) / log10(highest / lowest)
        return left + share * (right - left)

    parts = []
    bottom = top + row * len(shown)
    parts += (
        f'<line x1="{x(tick):.1f}" y1="{top - 12}" x2="{x(tick):.1f}" y2="{bottom}" '
        f'stroke="#e5e7eb"/><text x="{x(tick):.1f}" y="{top - 18}" text-anchor="middle">'
        f"{tick:,} ms</text>"
        for tick in (1, 10, 100, 1_000, 10_000)
    )
    for number, one in enumerate(shown):
        y = top + row * number + 6
        parts.append(
            f'<text x="{left - 10}" y="{y + 4}" text-anchor="end">{one.case.words}, '
            f"{one.case.at_once}</text>"
        )
        parts += (
            f'<circle cx="{x(gap * 1000):.1f}" cy="{y}" r="3" fill="#2563eb" fill-opacity="0.2"/>'
            for gap in one.score.gaps_s
        )
        middle = x(one.gap_ms(0.5))
        parts.append(
            f'<line x1="{middle:.1f}" y1="{y - 9}" x2="{middle:.1f}" y2="{y + 9}" '
            'stroke="#b91c1c" stroke-width="2"/>'
        )
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" width="740" height="{bottom + 10}" '
        f'viewBox="0 0 740 {bottom + 10}" font-family="system-ui, sans-serif" font-size="11" '
        'role="img" aria-label="Gaps of broken streams, in milliseconds">'
        '<rect width="100%" height="100%" fill="#ffffff"/>' + "".join(parts) + "</svg>\n"
    )
