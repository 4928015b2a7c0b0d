"""The figures on the pages that set helexa beside others: `python -m benchmarks.comparison`.

People read `README.md` and `docs/comparison.md`, and a run of `make bench` changes what is in
`docs/benchmarks/gateway.json`. So the pages do not quote figures: a block between two marks is
written from that file, and a test holds the block against it.
"""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Final

from benchmarks.measure import Figures, ratio
from benchmarks.report import ROWS

ROOT: Final = Path(__file__).resolve().parents[1]
SOURCE: Final = "docs/benchmarks/gateway.json"

BEGIN: Final = "<!-- figures:begin -->"
END: Final = "<!-- figures:end -->"
_BLOCK: Final = re.compile(f"{BEGIN}.*?{END}", re.DOTALL)

PEERS: Final = ("sglang-router", "litellm")
"""What has the same work to do as the gateway; nginx, which checks nothing, is on the full page."""

SHORT: Final = ("us_request_16", "us_request_64", "us_chunk", "rps_16", "rps_64", "rss_mb")

PAGES: Final[Mapping[str, tuple[str, ...] | None]] = {
    "README.md": SHORT,
    "docs/comparison.md": None,
}
"""The measures on each page; None is all that were measured."""


def read(path: Path) -> tuple[dict[str, Figures], dict[str, str]]:
    """The targets by name, and what is told of the machine."""
    data = json.loads(path.read_text())
    figures = {
        name: Figures(name, one["version"], one["values"]) for name, one in data["targets"].items()
    }
    return figures, data["machine"]


def block(
    figures: Mapping[str, Figures], machine: Mapping[str, str], measures: tuple[str, ...] | None
) -> str:
    """What stands between the marks, the marks included."""
    ours = figures["helexa"]
    peers = [figures[name] for name in PEERS if name in figures]
    heads = [f"{one.name} {one.version}" for one in (ours, *peers)]
    heads += [f"helexa / {one.name}" for one in peers]
    lines = [BEGIN, "", "| | " + " | ".join(heads) + " |", "|---|" + "---:|" * len(heads)]
    for measure, words, form in ROWS:
        if ours.median(measure) is None or (measures is not None and measure not in measures):
            continue
        medians = [one.median(measure) for one in (ours, *peers)]
        cells = ["" if value is None else form.format(value) for value in medians]
        ratios = [ratio(ours, one, measure) for one in peers]
        cells += ["" if value is None else _short(value) for value in ratios]
        lines.append(f"| {words} | " + " | ".join(cells) + " |")
    rounds = max(len(values) for values in ours.values.values())
    where = f"{machine['cores']} cores ({machine['processor']}), Python {machine['Python']}"
    lines += [
        "",
        f"Medians of {rounds} rounds in turn, in front of the same upstream, on {where}.",
        "Ratios are the medians of those inside each round.",
        "",
        END,
    ]
    return "\n".join(lines)


def _short(value: float) -> str:
    """Two digits that count, however small: 0.91, 0.0047, 216."""
    return f"{value:.0f}" if value >= 100 else f"{value:.2f}" if value >= 0.1 else f"{value:.2g}"


def rewritten(text: str, wanted: str) -> str:
    """The page with its block replaced. ValueError where it has none, or several."""
    if len(_BLOCK.findall(text)) != 1:
        raise ValueError(f"the page needs one block from {BEGIN} to {END}")
    return _BLOCK.sub(lambda _: wanted, text)


def pages(root: Path = ROOT) -> dict[Path, str]:
    """Each page that has figures, and the text that it should have."""
    figures, machine = read(root / SOURCE)
    return {
        root / name: rewritten((root / name).read_text(), block(figures, machine, measures))
        for name, measures in PAGES.items()
    }


def write(root: Path = ROOT) -> None:
    for path, text in pages(root).items():
        path.write_text(text)


def main() -> int:
    write()
    return 0


if __name__ == "__main__":
    sys.exit(main())
