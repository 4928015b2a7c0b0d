"""What neurons have and nobody wrote down, as the entries that describe it."""

from __future__ import annotations

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.cortex.books import Shelf, entry
from tests.cortex.fleets import fleet, node

from helexa.cortex.orchestrator.catalogue import EMPTY, catalogue
from helexa.cortex.orchestrator.fleet import NeuronLeft, apply
from helexa.cortex.orchestrator.imports import described, imported
from helexa.cortex.orchestrator.soundness import ENTRIES_MAX, problems
from helexa.cortex.settings import ModelEntry
from helexa.protocol.ids import ModelId
from helexa.protocol.work import ModelCapability, ModelState, WorkloadClass

CHAT, EMBEDDING = WorkloadClass.CHAT_INTERACTIVE, WorkloadClass.EMBEDDING


def had(model: str = "m", **fields: object) -> ModelCapability:
    return ModelCapability(model=ModelId(model), state=ModelState.UNLOADED, **fields)


def test_an_entry_describes_what_a_neuron_has() -> None:
    view = fleet(
        (
            1,
            (
                had(
                    source="hf:a/b@main",
                    quantisation="Q4_K_M",
                    context_tokens=4096,
                    slots=2,
                    classes=(EMBEDDING, CHAT),
                ),
                had("bare"),
            ),
        )
    )
    assert imported(view, EMPTY) == [
        ModelEntry(id="bare"),
        ModelEntry(
            id="m",
            source="hf:a/b@main",
            quantisation="Q4_K_M",
            context_tokens=4096,
            slots=2,
            classes=(CHAT, EMBEDDING),
        ),
    ]


def test_what_has_a_name_in_the_catalogue_is_not_imported() -> None:
    view = fleet((1, (had("a"), had("b"), had("c"))))
    book = catalogue([entry("a", aliases=["b"])])
    assert [one.id for one in imported(view, book)] == ["c"]


def test_what_neurons_differ_in_is_left_to_each() -> None:
    view = fleet(
        (1, (had(context_tokens=4096, slots=4, quantisation="Q8_0", source="file:/a"),)),
        (2, (had(context_tokens=4096, slots=2, quantisation="Q4_0", classes=(CHAT,)),)),
    )
    (found,) = imported(view, EMPTY)
    assert found == ModelEntry(id="m", source="file:/a", context_tokens=4096, classes=(CHAT,))


def test_a_neuron_that_is_gone_counts_for_nothing() -> None:
    view = fleet((1, (had(slots=4),)), (2, (had(slots=2), had("other"))))
    view = apply(view, NeuronLeft(node=node(2), reason="", now_s=1))
    assert imported(view, EMPTY) == [ModelEntry(id="m", slots=4)]
    assert described(view, ModelId("other")) is None
    assert described(view, ModelId("m")) == ModelEntry(id="m", slots=4)


def test_what_a_neuron_says_that_no_file_could_say_is_left_out() -> None:
    view = fleet(
        (
            1,
            (
                had(
                    source="http://example.org/x", quantisation="a b", context_tokens=-1, slots=999
                ),
                had("../up"),
                had("p", source="peer:"),
            ),
        )
    )
    assert imported(view, EMPTY) == [ModelEntry(id="m"), ModelEntry(id="p")]


def test_no_more_are_imported_than_there_is_room_for() -> None:
    view = fleet((1, tuple(had(f"m{at}") for at in range(10))))
    full = catalogue([entry(f"e{at}") for at in range(ENTRIES_MAX - 3)])
    assert len(imported(view, full)) == 3
    assert imported(view, catalogue([entry(f"e{at}") for at in range(ENTRIES_MAX)])) == []


@pytest.mark.anyio
async def test_what_was_imported_is_in_the_book_and_not_imported_again(tmp_path) -> None:
    shelf = Shelf(tmp_path)
    view = fleet((1, (had("a", slots=2), had("b"))))
    for one in imported(view, shelf.book.catalogue):
        shelf.book.put(one)
    assert imported(view, shelf.book.catalogue) == []
    assert list(shelf.reopen().catalogue.entries) == ["a", "b"]


_CAPABILITIES = st.builds(
    had,
    st.sampled_from(["m", "n", "x", "../n", ""]),
    source=st.sampled_from(["", "hf:a/b", "peer:", "file:/x", "x", "hf:" + "a" * 3000]),
    quantisation=st.text(max_size=4) | st.just("Q4_0"),
    context_tokens=st.integers(-(1 << 63), 1 << 63),
    slots=st.integers(-1, 300),
    classes=st.lists(st.sampled_from(WorkloadClass), max_size=3).map(tuple),
)


@given(st.lists(st.lists(_CAPABILITIES, max_size=3).map(tuple), max_size=3))
def test_whatever_neurons_say_the_entries_make_a_catalogue(said: list[tuple]) -> None:
    view = fleet(*((number, one) for number, one in enumerate(said, 1)))
    found = imported(view, catalogue([entry("n", aliases=["x"])]))
    assert problems([entry("n", aliases=["x"]), *found]) == []
    assert msgspec.json.decode(msgspec.json.encode(found), type=list[ModelEntry]) == found
