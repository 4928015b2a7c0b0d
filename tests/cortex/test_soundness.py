"""Entries judged as a whole: names, fallbacks, forms and bounds, each fault with its place."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from helexa.cortex.orchestrator import soundness
from helexa.cortex.orchestrator.catalogue import catalogue
from helexa.cortex.orchestrator.soundness import Fault, place_of, problems
from helexa.cortex.settings import Alias, ModelEntry
from helexa.protocol.messages import SourceFile
from helexa.protocol.work import Price


def entry(model: str, **fields: object) -> ModelEntry:
    return ModelEntry(id=model, **fields)


def aliases(*names: str) -> tuple[Alias, ...]:
    return tuple(Alias(name=name) for name in names)


def told(*entries: ModelEntry) -> list[str]:
    return [str(fault) for fault in problems(entries)]


def test_nothing_is_wrong_with_nothing() -> None:
    assert problems(()) == []


def test_names_that_lead_somewhere_are_sound() -> None:
    entries = (
        entry("a", aliases=aliases("chat", "a-latest"), fallbacks=("b", "small")),
        entry("b", aliases=aliases("chat"), fallbacks=("c",)),
        entry("c", aliases=aliases("small")),
        entry("d", aliases=aliases("small")),
    )
    assert problems(entries) == []
    assert [way.model for way in catalogue(entries).aliases["chat"]] == ["a", "b"]


@pytest.mark.parametrize(
    ("entries", "faults"),
    [
        ([entry("../a")], ["models[0] (../a).id: '../a' cannot name a model"]),
        (
            [entry("a"), entry("b"), entry("a")],
            ["models[2] (a).id: 'a' is the id of an entry before it; ids are unique"],
        ),
        (
            [entry("a", aliases=aliases("b", "a", "x", "x", "no name")), entry("b")],
            [
                "models[0] (a).aliases[0]: 'b' is the id of a model; an alias is another name",
                "models[0] (a).aliases[1]: 'a' is the id of a model; an alias is another name",
                "models[0] (a).aliases[3]: 'x' is given twice",
                "models[0] (a).aliases[4]: 'no name' cannot name a model",
            ],
        ),
        (
            [entry("a", fallbacks=("b", "b", "c")), entry("b")],
            [
                "models[0] (a).fallbacks[1]: 'b' is given twice",
                "models[0] (a).fallbacks[2]: 'c' is neither a model of the catalogue nor an alias",
            ],
        ),
        (
            [entry("a", fallbacks=("b",)), entry("b", fallbacks=("a",)), entry("c")],
            [
                "models[0] (a).fallbacks[0]: leads back to the model itself: a -> b -> a",
                "models[1] (b).fallbacks[0]: leads back to the model itself: b -> a -> b",
            ],
        ),
        (
            # A circle through an alias; whoever merely leads into it is not at fault.
            [
                entry("into", fallbacks=("a",)),
                entry("a", fallbacks=("chat",)),
                entry("b", aliases=aliases("chat"), fallbacks=("a",)),
                entry("c", aliases=aliases("chat")),
            ],
            [
                "models[1] (a).fallbacks[0]: leads back to the model itself: a -> chat -> a",
                "models[2] (b).fallbacks[0]: leads back to the model itself: b -> a -> chat",
            ],
        ),
        (
            [entry("a", replicas_min=3, replicas_max=2)],
            ["models[0] (a).replicas_min: 3 is above replicas_max, 2"],
        ),
        (
            [entry("a", source="peer:", files=(SourceFile(name="f"),))],
            ["models[0] (a).source: peer: needs the sha256 of every file; f has none"],
        ),
        (
            [entry("a", source="http://e.org/m")],
            [
                "models[0] (a).source: 'http://e.org/m': http:// is for loopback alone; write https://"
            ],
        ),
        (
            [
                entry(
                    "a",
                    source="hf:a/b",
                    files=(
                        SourceFile(name="f", sha256="X"),
                        SourceFile(name="f", size=-1),
                        SourceFile(name="/f", size=1 << 60),
                    ),
                )
            ],
            [
                "models[0] (a).files[0].sha256: 'X' is not a digest",
                "models[0] (a).files[1].name: 'f' is given twice",
                "models[0] (a).files[1].size: -1 is out of range",
                "models[0] (a).files[2].name: '/f' cannot name a file of a source",
                "models[0] (a).files[2].size: 1152921504606846976 is out of range",
            ],
        ),
        (
            [entry("a", files=(SourceFile(name="f"),))],
            ["models[0] (a).files: are of no use without a source"],
        ),
        (
            [entry("a", price=Price(completion=-1, reasoning=10**16))],
            [
                "models[0] (a).price.completion: -1 is out of range",
                "models[0] (a).price.reasoning: 10000000000000000 is out of range",
            ],
        ),
        (
            [
                entry(
                    "a",
                    description="two\nlines",
                    quantisation="Q 4",
                    runtime="llama.cpp",
                    arguments=("=1",),
                    regions=("eu-*", "a b"),
                    operators=("xyz",),
                    nodes=(" ",),
                    labels={"": "x", "rack": "\x1b[2J"},
                )
            ],
            [
                "models[0] (a).description: 'two\\nlines' has characters that cannot be printed",
                "models[0] (a).quantisation: 'Q 4' is not a quantisation",
                "models[0] (a).runtime: 'llama.cpp' is not a runtime's name",
                "models[0] (a).arguments[0]: '=1' is not NAME=VALUE",
                "models[0] (a).regions[1]: 'a b' is not a pattern",
                "models[0] (a).operators[0]: 'xyz' is not the id of an operator",
                "models[0] (a).nodes[0]: ' ' names no neuron",
                "models[0] (a).labels.: a label without a name",
                "models[0] (a).labels.rack: '\\x1b[2J' has characters that cannot be printed",
            ],
        ),
        (
            [entry("a", description="x" * 1001)],
            ["models[0] (a).description: a description of 1001 characters; at most 1000"],
        ),
    ],
)  # fmt: skip
def test_a_fault_is_told_with_its_place(entries: list[ModelEntry], faults: list[str]) -> None:
    assert told(*entries) == faults


@pytest.mark.parametrize(
    ("setting", "make", "most"),
    [
        ("aliases", lambda n: aliases(*(f"x{i}" for i in range(n))), soundness.ALIASES_MAX),
        ("arguments", lambda n: ("a=1",) * n, soundness.ARGUMENTS_MAX),
        ("labels", lambda n: {f"x{i}": "" for i in range(n)}, soundness.LABELS_MAX),
        ("regions", lambda n: ("eu",) * n, soundness.PLACES_MAX),
        ("operators", lambda n: ("ab" * 4,) * n, soundness.PLACES_MAX),
        ("nodes", lambda n: ("n",) * n, soundness.PLACES_MAX),
    ],
)
def test_every_count_has_its_bound(setting, make, most) -> None:
    assert problems([entry("a", **{setting: make(most)})]) == []
    message = f"{most + 1} of them; accepted are at most {most}"
    assert problems([entry("a", **{setting: make(most + 1)})]) == [
        Fault(0, "a", (setting,), message)
    ]


def test_files_fallbacks_entries_and_models_of_one_name_are_bounded_too() -> None:
    files = tuple(SourceFile(name=f"f{i}") for i in range(soundness.FILES_MAX + 1))
    assert told(entry("a", source="hf:a/b", files=files)) == [
        "models[0] (a).files: 1025 of them; accepted are at most 1024"
    ]
    many = [entry(f"m{i}") for i in range(soundness.FALLBACKS_MAX + 1)]
    wide = entry("a", fallbacks=tuple(one.id for one in many))
    assert told(wide, *many) == ["models[0] (a).fallbacks: 17 of them; accepted are at most 16"]
    assert told(*[entry("a")] * (soundness.ENTRIES_MAX + 1)) == [
        "models: 1025 models; accepted are at most 1024"
    ]
    crowd = [entry(f"m{i}", aliases=aliases("x")) for i in range(soundness.WAYS_MAX)]
    assert problems(crowd) == []
    found = told(*crowd, entry("last", aliases=aliases("x")))
    assert found[-1] == "models[64] (last).aliases[0]: 'x' stands for more than 64 models"


def test_a_place_reads_as_a_path() -> None:
    assert place_of(3, "t/m", ("files", 0, "sha256")) == "models[3] (t/m).files[0].sha256"
    assert place_of(0, "", ()) == "models[0]"


_NAMES = [f"m{number}" for number in range(6)]


@given(st.dictionaries(st.sampled_from(_NAMES), st.lists(st.sampled_from(_NAMES), unique=True)))
def test_a_circle_of_fallbacks_is_found_exactly_where_there_is_one(
    steps: dict[str, list[str]],
) -> None:
    entries = [entry(name, fallbacks=tuple(steps.get(name, ()))) for name in _NAMES]

    def reaches(start: str, goal: str) -> bool:
        seen: set[str] = set()
        left = [start]
        while left:
            at = left.pop()
            if at == goal:
                return True
            if at not in seen:
                seen.add(at)
                left += steps.get(at, ())
        return False

    expected = {
        (name, at)
        for name in _NAMES
        for at, step in enumerate(steps.get(name, ()))
        if reaches(step, name)
    }
    assert {(fault.id, fault.path[1]) for fault in problems(entries)} == expected
