"""The simulated figures as a Markdown page, a plot and a JSON file."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

Found = Mapping[str, Any]

PAGE = """\
# Mesh, simulated

Written by `make sim-figures`, seed {seed}. The network, the nodes and what is measured are in
`src/helexa/testing/simulation/`. Every node runs the real membership core with the WAN preset,
whose protocol period is 1 s. One-way delays are log-normal with a median of 40 ms. Dead nodes fall
silent without closing a link, as when a machine loses its power.

| aim | wanted | measured | met |
|---|---|---|---|
{aims}

{records} records, {deaths} deaths, {node_days:.0f} node-days. A false death is any living node that
any other holds for dead, even for a moment; {suspicions:.1f} suspicions a node-day became public
and were answered.

## Traffic

![Bytes a node sends per second over the size of the mesh](mesh.svg)

Every node has something new to say once a minute, and a record of {record_bytes:,} bytes: a
certificate, two transports, two offers. How often it may publish is what the mesh can carry, so a
larger mesh hears from each node less often. Nodes that many others picked send more than the
average: the second column. Counted are the encoded messages and for each
{overhead} bytes of frame, TLS, TCP and IP; making a link costs each side 2,500.

| nodes | B/s a node | B/s, 99 of 100 nodes | messages/s | dials/s |
|---:|---:|---:|---:|---:|
{sizes}
"""


def write(folder: Path, found: Found) -> None:
    """`mesh.json`, `mesh.md` and `mesh.svg` in `folder`. Raises OSError."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "mesh.json").write_text(json.dumps(found, indent=1) + "\n")
    (folder / "mesh.md").write_text(markdown(found))
    (folder / "mesh.svg").write_text(svg(found["traffic"]))


def markdown(found: Found) -> str:
    news, deaths, false = found["news"], found["deaths"], found["false_deaths"]
    rows = found["traffic"]
    rates = [row["bytes_per_s"] for row in rows]
    aims = (
        (
            f"{news['nodes']:,} nodes, {news['loss']:.0%} loss: everybody has a new record",
            "within 15 periods",
            f"{news['most_periods']:.1f} at most, {news['median_periods']:.1f} median",
            news["most_periods"] <= 15,
        ),
        (
            f"{deaths['nodes']:,} nodes, {deaths['loss']:.0%} loss: 99% know of a death",
            "within 10 s",
            f"{deaths['most_s']:.1f} s at most, {deaths['median_s']:.1f} s median",
            deaths["most_s"] <= 10,
        ),
        (
            f"{false['nodes']:,} nodes, {false['loss']:.0%} loss: false deaths",
            "under 1 a node-day",
            f"{false['per_node_day']:.2f}",
            false["per_node_day"] < 1,
        ),
        (
            "sent by a node, on average",
            "under 5,000 B/s",
            f"{max(rates):,.0f} B/s at most",
            max(rates) < 5_000,
        ),
        (
            f"the same from {rows[0]['nodes']:,} to {rows[-1]['nodes']:,} nodes",
            "flat",
            f"{max(rates) / min(rates):.2f} times between most and least",
            max(rates) / min(rates) < 1.5,
        ),
    )
    table = [
        f"| {aim} | {wanted} | {measured} | {'yes' if met else 'no'} |"
        for aim, wanted, measured, met in aims
    ]
    sizes = [
        f"| {row['nodes']:,} | {row['bytes_per_s']:,.0f} | {row['bytes_per_s_99']:,.0f} "
        f"| {row['messages_per_s']:.1f} | {row['dials_per_s']:.2f} |"
        for row in rows
    ]
    return PAGE.format(
        seed=found["seed"],
        overhead=found["overhead"],
        aims="\n".join(table),
        sizes="\n".join(sizes),
        records=news["records"],
        record_bytes=news["record_bytes"],
        deaths=deaths["deaths"],
        node_days=false["node_days"],
        suspicions=false["public_suspicions_per_node_day"],
    )


def svg(rows: Sequence[Found]) -> str:
    """Bytes a second over nodes, the latter on a logarithmic scale, and the bound."""
    left, top, width, height = 70, 34, 600, 240
    most = 8_000.0
    low, high = math.log10(rows[0]["nodes"]), math.log10(rows[-1]["nodes"])

    def x(nodes: float) -> float:
        return left + width * (math.log10(nodes) - low) / ((high - low) or 1)

    def y(rate: float) -> float:
        return top + height * (1 - min(rate, most) / most)

    parts = [
        f'<line x1="{left}" x2="{left + width}" y1="{y(rate):.1f}" y2="{y(rate):.1f}" '
        'stroke="#e5e7eb"/>'
        f'<text x="{left - 8}" y="{y(rate) + 4:.1f}" text-anchor="end">{rate:,}</text>'
        for rate in range(0, int(most) + 1, 1_000)
    ]
    bound = y(5_000)
    parts.append(
        f'<line x1="{left}" x2="{left + width}" y1="{bound:.1f}" y2="{bound:.1f}" '
        'stroke="#dc2626" stroke-dasharray="5 4"/>'
    )
    for measure, colour, words in (
        ("bytes_per_s", "#2563eb", "mean"),
        ("bytes_per_s_99", "#d97706", "99 of 100 nodes send less"),
    ):
        points = [(x(row["nodes"]), y(row[measure])) for row in rows]
        path = " ".join(f"{px:.1f},{py:.1f}" for px, py in points)
        parts.append(f'<polyline points="{path}" fill="none" stroke="{colour}" stroke-width="2"/>')
        parts += [
            f'<circle cx="{px:.1f}" cy="{py:.1f}" r="3" fill="{colour}"/>' for px, py in points
        ]
        parts.append(
            f'<text x="{left + 8}" y="{points[0][1] - 8:.1f}" fill="{colour}">{words}</text>'
        )
    for row in rows:
        parts.append(
            f'<text x="{x(row["nodes"]):.1f}" y="{top + height + 18}" text-anchor="middle">'
            f"{row['nodes']:,}</text>"
        )
    parts.append(
        f'<text x="{left + width / 2}" y="{top + height + 38}" text-anchor="middle">nodes</text>'
        f'<text x="{left}" y="{top - 16}">bytes a node sends per second</text>'
    )
    total_width, total_height = left + width + 30, top + height + 50
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{total_width}" height="{total_height}" '
        f'viewBox="0 0 {total_width} {total_height}" font-family="system-ui, sans-serif" '
        'font-size="13" role="img" aria-label="Bytes a node sends per second over the number of '
        'nodes"><rect width="100%" height="100%" fill="#ffffff"/>' + "".join(parts) + "</svg>\n"
    )
