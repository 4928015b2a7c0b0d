"""Sizes and times as people write them."""

from __future__ import annotations

import pytest

from helexa.util.units import format_seconds, parse_bytes, parse_seconds


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("90", 90), ("90s", 90), ("1.5m", 90), (" 24 h ", 86_400), ("7D", 604_800), ("2w", 1_209_600)],
)
def test_a_time_has_a_unit_or_is_seconds(text: str, seconds: int) -> None:
    assert parse_seconds(text) == seconds


@pytest.mark.parametrize("text", ["", "soon", "-1", "1y", "1h30m", "1e9", "9" * 400])
def test_what_is_no_time_is_refused_with_the_forms(text: str) -> None:
    with pytest.raises(ValueError, match="for example 30m, 24h or 7d"):
        parse_seconds(text)


def test_a_size_is_of_1024_with_i_and_of_1000_without() -> None:
    assert (parse_bytes("2KiB"), parse_bytes("2kB"), parse_bytes("7")) == (2048, 2000, 7)


def test_times_are_written_with_two_units_at_most() -> None:
    assert format_seconds(0.25) == "250 ms"
    assert format_seconds(75) == "1m 15s"
    assert format_seconds(90_061) == "1d 1h"
