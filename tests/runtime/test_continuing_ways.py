"""Going on with a broken stream: which ways there are, what spans the seam, which tokens it was."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from helexa.runtime.continuing import choice, tokens
from helexa.runtime.continuing.choice import Begun, Sampling, Situation, Way
from helexa.runtime.continuing.seam import Seam
from helexa.runtime.contract import Tokens

BOTH = (False, True)
SITUATIONS = [
    Situation(
        sampling=sampling,
        begun=begun,
        is_chat=is_chat,
        is_plain=is_plain,
        is_several=is_several,
        has_logprobs=has_logprobs,
        is_complete=is_complete,
        is_deterministic=is_deterministic,
        by_tokens=by_tokens,
        by_text=by_text,
        by_thought=by_thought,
    )
    for sampling, begun, is_chat, is_plain, is_several, has_logprobs, is_complete,
        is_deterministic, by_tokens, by_text, by_thought
    in itertools.product(Sampling, Begun, *[BOTH] * 9)
]  # fmt: skip


def test_every_situation_gets_ways_that_lead_on_or_a_reason() -> None:
    for of in SITUATIONS:
        ways = choice.ways(of)
        assert len(set(ways)) == len(ways)
        if not ways:
            assert choice.why_not(of)
            assert of.sampling is Sampling.FREE, of


def test_no_way_leads_to_what_it_cannot_do() -> None:
    for of in SITUATIONS:
        ways = choice.ways(of)
        fresh = of.begun is Begun.NOTHING and not of.is_complete
        if Way.REPLAY in ways:
            assert of.sampling is not Sampling.FREE or fresh, of
        if Way.TOKENS in ways:
            assert of.by_tokens, of
            assert of.is_plain, of
            assert not of.is_several, of
            assert not of.has_logprobs, of
        if Way.TEXT in ways:
            assert of.by_text, of
            assert of.is_chat, of
            assert of.begun not in (Begun.NOTHING, Begun.CALL), of
            assert of.begun is Begun.TEXT or of.by_thought, of
            assert not any((of.is_several, of.has_logprobs, of.is_complete)), of


def test_where_exactness_was_promised_every_way_is_exact() -> None:
    for of in SITUATIONS:
        if of.is_deterministic and of.sampling is not Sampling.FREE:
            exact = {Way.REPLAY}
            if of.sampling is Sampling.GREEDY:
                exact.add(Way.TOKENS)
            assert set(choice.ways(of)) <= exact, of


def test_an_exact_way_is_tried_before_one_that_is_not() -> None:
    for of in SITUATIONS:
        ways = choice.ways(of)
        if of.sampling is Sampling.SEEDED and ways:
            assert ways[0] is Way.REPLAY, of
        if Way.TEXT in ways:
            assert ways[-1] is Way.TEXT, of


# --- stop strings at the seam

LETTERS = st.text("ab", max_size=8)


@given(
    before=LETTERS,
    pieces=st.lists(st.text("ab", min_size=1, max_size=3), max_size=6),
    stops=st.lists(st.text("ab", min_size=1, max_size=4), max_size=3),
)
def test_a_stop_string_across_the_seam_ends_the_answer_there(
    before: str, pieces: list[str], stops: list[str]
) -> None:
    seam = Seam(before, stops)
    shown = "".join(seam.feed(one) for one in pieces) + seam.rest()
    after = "".join(pieces)
    spans = [
        stop
        for stop in stops
        for length in range(1, len(stop))
        if before.endswith(stop[:length]) and after.startswith(stop[length:])
    ]
    assert seam.is_stopped is bool(spans)
    assert shown == ("" if spans else after)


# --- the tokens of pieces


@given(st.lists(st.text(min_size=1, max_size=4), max_size=8), st.data())
def test_tokens_are_told_apart_by_the_pieces_that_they_are_the_text_of(
    pieces: list[str], data: st.DataObject
) -> None:
    """However a piece is divided among tokens, in the middle of characters too."""
    divided: list[list[bytes]] = []
    for piece in pieces:
        raw = piece.encode()
        cuts = data.draw(st.sets(st.integers(1, max(1, len(raw) - 1))))
        at = [0, *sorted(cut for cut in cuts if cut < len(raw)), len(raw)]
        divided.append([raw[a:b] for a, b in itertools.pairwise(at)])
    flat = [one for each in divided for one in each]
    found = Tokens(count=len(flat), ids=list(range(len(flat))), pieces=flat)
    by_piece = tokens.divided(pieces, found)
    assert by_piece is not None
    assert [len(one) for one in by_piece] == [len(one) for one in divided]
    assert [one for each in by_piece for one in each] == list(range(len(flat)))


@pytest.mark.parametrize(
    "found",
    [
        Tokens(count=1, ids=[1], pieces=[b"ab"]),
        Tokens(count=2, ids=[1, 2], pieces=[b"a", b"x"]),
        Tokens(count=3, ids=[1, 2, 3], pieces=[b"a", b"b", b"c"]),
        Tokens(count=1, ids=[1], pieces=[b"a"]),
        Tokens(count=2, ids=[1, 2]),
    ],
)
def test_tokens_of_another_text_are_none_of_these_pieces(found: Tokens) -> None:
    assert tokens.divided(["a", "b"], found) is None
