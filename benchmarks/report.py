"""Figures as a Markdown page, a plot and a JSON file in `docs/benchmarks/`."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.measure import (
    MANY_EVERY_US,
    MANY_STREAMS,
    PROMPT_KB,
    STREAMS,
    Figures,
    Plan,
    ratio,
)

_MANY = f"{MANY_STREAMS} streams, a chunk each {MANY_EVERY_US // 1000} ms"

ROWS = (
    ("us_request_16", "CPU us/request, 16 connections", "{:.0f}"),
    ("us_request_64", "CPU us/request, 64 connections", "{:.0f}"),
    ("us_chunk", f"CPU us/chunk, {STREAMS} paced streams", "{:.0f}"),
    ("rps_16", "requests/s, 16 connections", "{:,.0f}"),
    ("rps_64", "requests/s, 64 connections", "{:,.0f}"),
    ("p50_us_16", "p50 us, 16 connections", "{:,.0f}"),
    ("p99_us_16", "p99 us, 16 connections", "{:,.0f}"),
    ("lag_p50_us", "p50 us a chunk is late", "{:,.0f}"),
    ("lag_p99_us", "p99 us a chunk is late", "{:,.0f}"),
    ("many_lag_p50_us", f"p50 us a chunk is late, {_MANY}", "{:,.0f}"),
    ("many_lag_p99_us", f"p99 us a chunk is late, {_MANY}", "{:,.0f}"),
    ("rps_large", f"requests/s, {PROMPT_KB} KB prompts, 16 connections", "{:,.0f}"),
    ("us_large", f"CPU us/request, {PROMPT_KB} KB prompts", "{:,.0f}"),
    ("rss_mb", "memory, MB", "{:.0f}"),
)


@dataclass(frozen=True)
class Aim:
    """What helexa wants to be, against whom."""

    measure: str
    peer: str | None
    bound: float
    at_most: bool
    words: str

    def value(self, figures: Mapping[str, Figures]) -> float | None:
        if self.peer is None:
            return figures["helexa"].median(self.measure)
        if self.peer not in figures:
            return None
        return ratio(figures["helexa"], figures[self.peer], self.measure)


AIMS = (
    Aim("us_request_16", "sglang-router", 0.9, True, "CPU/request at 16, against sglang-router"),
    Aim("us_request_64", "sglang-router", 0.9, True, "CPU/request at 64, against sglang-router"),
    Aim("rps_16", "sglang-router", 1.0, False, "requests/s at 16, against sglang-router"),
    Aim("rps_64", "sglang-router", 1.0, False, "requests/s at 64, against sglang-router"),
    Aim("us_chunk", "sglang-router", 1.0, True, "CPU/chunk, against sglang-router"),
    Aim(
        "many_lag_p99_us",
        "sglang-router",
        1.5,
        True,
        f"p99 lateness of {MANY_STREAMS} streams, against sglang-router",
    ),
    Aim(
        "rps_large",
        "sglang-router",
        1.5,
        False,
        f"requests/s with {PROMPT_KB} KB prompts, against sglang-router",
    ),
    Aim("rps_16", "litellm", 150, False, "requests/s at 16, against litellm"),
    Aim("rss_mb", None, 90, True, "memory in MB"),
)


def verdicts(figures: Mapping[str, Figures]) -> list[tuple[Aim, float | None, bool]]:
    found = []
    for aim in AIMS:
        value = aim.value(figures)
        met = value is not None and (value <= aim.bound if aim.at_most else value >= aim.bound)
        found.append((aim, value, met))
    return found


def markdown(
    figures: Mapping[str, Figures],
    machine: Sequence[tuple[str, str]],
    plan: Plan,
    extra: Sequence[str],
) -> str:
    names = list(figures)
    how = (
        "Written by `make bench`; how it measures is in `benchmarks/`. Medians of "
        f"{plan.rounds} interleaved rounds of {plan.seconds:.0f} s; CPU is of the whole process "
        "tree."
    )
    lines = [
        "# Gateway benchmark",
        "",
        how,
        "nginx passes bytes on and checks nothing: it shows what the kernel costs.",
        "",
        "![CPU per request and per chunk](gateway.svg)",
        "",
        "| | " + " | ".join(f"{name} {figures[name].version}" for name in names) + " |",
        "|---|" + "---:|" * len(names),
    ]
    for measure, words, form in ROWS:
        cells = []
        for name in names:
            value = figures[name].median(measure)
            cells.append("" if value is None else form.format(value))
        lines.append(f"| {words} | " + " | ".join(cells) + " |")
    lines += ["", "## Aims", "", "| aim | wanted | measured | met |", "|---|---:|---:|---|"]
    for aim, value, met in verdicts(figures):
        sign = "at most" if aim.at_most else "at least"
        shown = "not measured" if value is None else f"{value:.2f}"
        lines.append(f"| {aim.words} | {sign} {aim.bound:g} | {shown} | {'yes' if met else 'no'} |")
    lines += [*extra, "", "## Machine", "", "| | |", "|---|---|"]
    lines += [f"| {name} | {value} |" for name, value in machine]
    return "\n".join(lines) + "\n"


def svg(figures: Mapping[str, Figures]) -> str:
    """Three groups of bars. LiteLLM is off any common scale: its bars are cut and labelled."""
    groups = (
        ("us_request_16", "us/request, 16 connections"),
        ("us_request_64", "us/request, 64 connections"),
        ("us_chunk", "us/chunk, 50 streams"),
    )
    colours = {"helexa": "#2563eb", "sglang-router": "#d97706", "litellm": "#9ca3af"}
    left, row, bar_max = 150, 22, 430
    shown = [
        value
        for name, one in figures.items()
        if name != "litellm"
        for measure, _ in groups
        if (value := one.median(measure)) is not None
    ]
    scale = bar_max / (max(shown, default=1) * 1.1)
    parts, y = [], 20
    for measure, title in groups:
        parts.append(f'<text x="10" y="{y + 4}" font-weight="600">CPU {title}</text>')
        y += row
        for name, one in figures.items():
            value = one.median(measure)
            if value is None:
                continue
            width = min(value * scale, bar_max)
            cut = " (bar cut)" if value * scale > bar_max else ""
            parts.append(
                f'<text x="{left - 8}" y="{y + 4}" text-anchor="end">{name}</text>'
                f'<rect x="{left}" y="{y - 9}" width="{width:.1f}" height="16" rx="2" '
                f'fill="{colours.get(name, "#6b7280")}"/>'
                f'<text x="{left + width + 6:.1f}" y="{y + 4}">{value:,.0f}{cut}</text>'
            )
            y += row
        y += row // 2
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" width="720" height="{y}" viewBox="0 0 720 {y}" '
        'font-family="system-ui, sans-serif" font-size="13" role="img" '
        'aria-label="CPU microseconds per request and per chunk">'
        '<rect width="100%" height="100%" fill="#ffffff"/>' + "".join(parts) + "</svg>\n"
    )


def raw(
    figures: Mapping[str, Figures], machine: Sequence[tuple[str, str]], more: Mapping[str, Any]
) -> str:
    data = {
        "machine": dict(machine),
        "targets": {
            name: {"version": one.version, "values": one.values} for name, one in figures.items()
        },
        **more,
    }
    return json.dumps(data, indent=1) + "\n"


def write(folder: Path, files: Mapping[str, str]) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for name, text in files.items():
        (folder / name).write_text(text)
