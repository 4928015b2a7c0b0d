"""What strangers call themselves, before it reaches a terminal or a page."""

from __future__ import annotations

import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from helexa.mesh.statements.plain_text import is_plain, plain


@pytest.mark.parametrize("text", ["", "Ada", "Zürich 3", "東京", "موقع", "🦙 farm", "a-b_c/d.e"])
def test_names_of_every_language_are_plain(text):
    assert is_plain(text, 64)
    assert plain(text, 64) == text


@pytest.mark.parametrize(
    "text",
    [
        *("a\nb", "a\rb", "\x1b[31m", "\x00", "\x7f", "\x85", "\t"),
        *("\u202eabc", "\u2066abc", "\u200babc", "\ufeff", "\u2028", "\ud800", "\U000e0041"),
    ],
)
def test_a_text_that_acts_on_its_surroundings_is_not_plain(text):
    assert not is_plain(text, 64)
    assert is_plain(plain(text, 64), 64)


def test_a_text_is_plain_up_to_its_length():
    assert is_plain("x" * 64, 64)
    assert not is_plain("x" * 65, 64)
    assert plain("x" * 65, 64) == "x" * 64


@given(st.text(max_size=40))
def test_what_is_shown_holds_no_control_no_break_and_no_change_of_direction(text):
    shown = plain(text, 30)
    assert len(shown) <= 30
    assert is_plain(shown, 30)
    assert not {unicodedata.category(c) for c in shown} & {"Cc", "Cs", "Zl", "Zp"}
    assert not {unicodedata.bidirectional(c) for c in shown} & {
        *("LRE", "RLE", "PDF", "LRO", "RLO", "LRI", "RLI", "FSI", "PDI"),
    }
