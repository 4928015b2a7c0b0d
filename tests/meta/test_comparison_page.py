"""Beside others: the figures are those that were measured, and nothing is said without a source."""

from __future__ import annotations

import re

import pytest
from benchmarks import comparison
from tests.meta.sources import ROOT

PAGE = ROOT / "docs" / "comparison.md"


@pytest.mark.parametrize("name", comparison.PAGES)
def test_the_figures_on_the_page_are_those_of_the_last_run(name: str) -> None:
    wanted = comparison.pages()[ROOT / name]
    assert (ROOT / name).read_text() == wanted, "run `python -m benchmarks.comparison`"


def test_a_page_without_a_block_is_refused() -> None:
    with pytest.raises(ValueError, match="one block"):
        comparison.rewritten("no block", "")
    twice = f"{comparison.BEGIN}{comparison.END}\n" * 2
    with pytest.raises(ValueError, match="one block"):
        comparison.rewritten(twice, "")


def test_every_footnote_is_used_and_every_use_has_one() -> None:
    text = PAGE.read_text()
    defined = re.findall(r"^\[\^([\w-]+)\]: ", text, re.MULTILINE)
    used = set(re.findall(r"\[\^([\w-]+)\](?!:)", text))
    assert len(defined) == len(set(defined)), "one footnote a name"
    assert set(defined) == used


def test_what_is_said_of_others_has_a_source() -> None:
    features = comparison.rewritten(PAGE.read_text(), "")
    rows = [
        [cell.strip() for cell in line.strip("|").split("|")]
        for line in features.splitlines()
        if line.startswith("| ") and not line.startswith("| | helexa |")
    ]
    assert len(rows) > 30, "the tables of features are found"
    for row in rows:
        assert len(row) == 6, f"{row[0]}: a cell for each"
        for cell in row[2:]:
            assert cell == "not documented" or "[^" in cell, f"{row[0]}: {cell!r} has no source"
