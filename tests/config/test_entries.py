"""`[[models]]` in a file: what it means, and refusals that lead to the line."""

# ruff: noqa: E501 - a case reads best on one line.

from __future__ import annotations

import tomllib
from pathlib import Path

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from helexa.config import Config, ConfigRefused, entries, load
from helexa.config.catalogue import ENTRY_SETTINGS
from helexa.config.origin import DEFAULT
from helexa.config.render import shown
from helexa.cortex.orchestrator.soundness import ENTRIES_MAX, problems
from helexa.cortex.settings import Alias, CortexSettings, ModelEntry, OrchestratorSettings
from helexa.protocol.messages import SourceFile
from helexa.protocol.work import Price, WorkloadClass

DIGEST = "ab" * 32


def loaded(folder: Path, text: str) -> Config:
    file = folder / "helexa.toml"
    file.write_text(text)
    return load({}, {}, file=file, roles=("cortex",))


def refused(folder: Path, text: str) -> list[str]:
    with pytest.raises(ConfigRefused) as caught:
        loaded(folder, text)
    return [
        line.removeprefix(f"{folder / 'helexa.toml'}:") for line in str(caught.value).split("\n")
    ]


def test_without_a_catalogue_there_are_no_entries(tmp_path: Path) -> None:
    config = loaded(tmp_path, "")
    assert config.cortex.models == ()
    assert config.cortex.orchestrator == OrchestratorSettings()
    assert loaded(tmp_path, "models = []").cortex.models == ()


def test_a_whole_entry_is_read(tmp_path: Path) -> None:
    config = loaded(
        tmp_path,
        f"""
        [[models]]
        id = "team/model-7b"
        description = "for everybody"
        source = "hf:OWNER/REPO@main"
        files = ["a.gguf", {{ name = "sub/b.gguf", sha256 = "{DIGEST}", size = "8GiB" }}]
        quantisation = "Q4_K_M"
        runtime = "llama_cpp"
        arguments = ["cache-type-k=q8_0"]
        context_tokens = 8192
        slots = 4
        deterministic = false
        memory_bytes = "8GiB"
        replicas_min = 1
        replicas_max = 3
        labels = {{ rack = "a3" }}
        regions = ["eu-*", "!eu-south"]
        operators = ["{DIGEST[:8].upper()}"]
        nodes = ["gpu 1"]
        priority = -5
        keep_warm = true
        idle_timeout_s = 0
        aliases = ["plain", "weighed:2.5", {{ name = "table", weight = 3 }}, "has:colon"]
        fallbacks = ["other"]
        price = {{ prompt_uncached = 5, completion = 7 }}
        classes = ["chat_interactive", "embedding"]
        queue_max = 9
        max_wait_s = 30
        pin = true

        [[models]]
        id = "other"
        """,
    )
    assert config.cortex.models == (
        ModelEntry(
            id="team/model-7b",
            description="for everybody",
            source="hf:OWNER/REPO@main",
            files=(
                SourceFile(name="a.gguf"),
                SourceFile(name="sub/b.gguf", sha256=DIGEST, size=8 << 30),
            ),
            quantisation="Q4_K_M",
            runtime="llama_cpp",
            arguments=("cache-type-k=q8_0",),
            context_tokens=8192,
            slots=4,
            deterministic=False,
            memory_bytes=8 << 30,
            replicas_min=1,
            replicas_max=3,
            labels={"rack": "a3"},
            regions=("eu-*", "!eu-south"),
            operators=(DIGEST[:8],),
            nodes=("gpu 1",),
            priority=-5,
            keep_warm=True,
            idle_timeout_s=0,
            aliases=(
                Alias(name="plain"),
                Alias(name="weighed", weight=2.5),
                Alias(name="table", weight=3.0),
                Alias(name="has:colon"),
            ),
            fallbacks=("other",),
            price=Price(prompt_uncached=5, completion=7),
            classes=(WorkloadClass.CHAT_INTERACTIVE, WorkloadClass.EMBEDDING),
            queue_max=9,
            max_wait_s=30,
            pin=True,
        ),
        ModelEntry(id="other"),
    )
    file = tmp_path / "helexa.toml"
    assert str(config.origin("models[0] (team/model-7b).slots")) == f"{file}:11"
    assert str(config.origin("models[1] (other).id")) == f"{file}:32"


def test_tables_of_an_entry_may_have_headers_of_their_own(tmp_path: Path) -> None:
    config = loaded(
        tmp_path,
        "[[models]]\nid = 'a'\n[models.price]\ncompletion = 3\n[[models.aliases]]\nname = 'x'\n"
        "[models.labels]\nrack = 'b'\n[[models]]\nid = 'b'\n",
    )
    first, second = config.cortex.models
    assert (first.price, first.aliases) == (Price(completion=3), (Alias(name="x"),))
    assert first.labels == {"rack": "b"}
    assert second == ModelEntry(id="b")


def test_the_section_of_the_orchestrator_has_all_layers(tmp_path: Path) -> None:
    file = tmp_path / "helexa.toml"
    file.write_text("[orchestrator]\nidle_timeout_s = 30\nswap_after_s = 0\n")
    config = load(
        {"orchestrator.provision": ("--no-provision", "false")},
        {"HELEXA_ORCHESTRATOR_SHARE_PIECES": "trusted"},
        file=file,
    )
    assert config.cortex.orchestrator == OrchestratorSettings(
        idle_timeout_s=30, swap_after_s=0, provision=False, share_pieces="trusted"
    )
    assert str(config.origin("orchestrator.idle_timeout_s")) == f"{file}:2"


MODEL = "[[models]]\nid = 'm'\n"
REFUSALS = [
    (MODEL + "slots = 0", ["3: models[0] (m).slots: 0 is out of range; accepted: a whole number from 1 to 256"]),
    (MODEL + "slotz = 4", ["3: models[0] (m).slotz: is not a setting; did you mean slots?"]),
    (MODEL + "context = 4096", ["3: models[0] (m).context: is not a setting; did you mean context_tokens?"]),
    (MODEL + "slots = true", ["3: models[0] (m).slots: true is not a number; accepted: a whole number from 1 to 256"]),
    (MODEL + "memory_bytes = '8 elephants'", ["3: models[0] (m).memory_bytes: '8 elephants' is not a size; write for example 512MiB, 2GB or 4096; accepted: a size such as 512MiB or 2GB to 1024.0 TiB"]),
    (MODEL + "idle_timeout_s = -1", ["3: models[0] (m).idle_timeout_s: -1 is out of range; accepted: a number of seconds from 0 to 31536000"]),
    (MODEL + "keep_warm = 'yes'", ['3: models[0] (m).keep_warm: "yes" is neither true nor false; accepted: true or false']),
    (MODEL + "price = 5", ["3: models[0] (m).price: 5 is not such a table; accepted: { prompt_uncached, prompt_cached, completion, reasoning }"]),
    (MODEL + "price = { completed = 5 }", ["3: models[0] (m).price.completed: is not a setting; did you mean completion?"]),
    (MODEL + "price = { completion = -1, reasoning = 1.5 }", [
        "3: models[0] (m).price.completion: -1 is out of range; accepted: a whole number from 0 to 1000000000000000",
        "3: models[0] (m).price.reasoning: 1.5 is not a whole number; accepted: a whole number from 0 to 1000000000000000",
    ]),
    (MODEL + "classes = ['embedding',\n'chat']", ["4: models[0] (m).classes[1]: 'chat' is not a choice; accepted: one of chat_interactive, chat_bulk, completion, embedding, rerank, vision, image, audio, other"]),
    (MODEL + "classes = 'embedding'", ['3: models[0] (m).classes: "embedding" is not a list; accepted: a list, each one of chat_interactive, chat_bulk, completion, embedding, rerank, vision, image, audio, other']),
    (MODEL + "aliases = ['a b']", ["3: models[0] (m).aliases[0].name: 'a b' cannot name a model; accepted: a model's name, such as helexa-demo or team/model-7b"]),
    (MODEL + "aliases = ['a:0']", ["3: models[0] (m).aliases[0].weight: 0 is out of range; accepted: a number above 0 up to 1000000"]),
    (MODEL + "aliases = [{ weight = 1 }]", ['3: models[0] (m).aliases[0]: has no name; accepted: a name, "NAME:WEIGHT" or { name, weight }']),
    (MODEL + "aliases = [{ name = 'x', wait = 1 }]", ["3: models[0] (m).aliases[0].wait: is not a setting; did you mean weight?"]),
    (MODEL + "aliases = ['m']", ["3: models[0] (m).aliases[0]: 'm' is the id of a model; an alias is another name"]),
    (MODEL + "aliases = ['x', 'x:2']", ["3: models[0] (m).aliases[1]: 'x' is given twice"]),
    (MODEL + "files = [\n{ name = 'a', sha256 = 'xyz' },\n]", ["3: models[0] (m).files: are of no use without a source", "4: models[0] (m).files[0].sha256: 'xyz' is not a digest; accepted: 64 small hexadecimal digits"]),
    (MODEL + "source = 'file:/a'\nfiles = ['../a']", ["4: models[0] (m).files[0].name: '../a' cannot name a file of a source; accepted: a file's path within the source"]),
    (MODEL + "source = 'ftp://x'", ["3: models[0] (m).source: 'ftp://x' is not a source; write hf:OWNER/REPO, hf:OWNER/REPO@REVISION, https://..., file:/PATH or peer:; accepted: hf:OWNER/REPO, hf:OWNER/REPO@REVISION, https://..., file:/PATH or peer:, or empty"]),
    (MODEL + "source = 'peer:'", ["3: models[0] (m).source: peer: needs files, each with its sha256"]),
    (MODEL + "fallbacks = ['n']", ["3: models[0] (m).fallbacks[0]: 'n' is neither a model of the catalogue nor an alias"]),
    (MODEL + "fallbacks = ['m']", ["3: models[0] (m).fallbacks[0]: leads back to the model itself: m -> m"]),
    (MODEL + "replicas_min = 2\nreplicas_max = 1", ["3: models[0] (m).replicas_min: 2 is above replicas_max, 1"]),
    (MODEL + "operators = ['abc']", ["3: models[0] (m).operators[0]: 'abc' is not the id of an operator; accepted: the id of an operator or its first 8 or more digits"]),
    (MODEL + "arguments = ['--flag']", ["3: models[0] (m).arguments[0]: '--flag' is not NAME=VALUE; accepted: NAME=VALUE"]),
    (MODEL + "labels = { rack = 3 }", ["3: models[0] (m).labels: 3 is not a text in quotes; accepted: a table of texts; as text KEY=VALUE, separated by commas"]),
    ("\n[[models]]\nslots = 1", ["2: models[0]: has no id; accepted: a model's name, such as helexa-demo or team/model-7b"]),
    ("[[models]]\nid = '../m'", ["2: models[0].id: '../m' cannot name a model; accepted: a model's name, such as helexa-demo or team/model-7b"]),
    (MODEL + MODEL, ["4: models[1] (m).id: 'm' is the id of an entry before it; ids are unique"]),
    ("models = [1]", ["1: models[0]: is a table: write [[models]]"]),
    ("[models]\nid = 'm'", ["1: models: is an array of tables: write [[models]]"]),
    ("[models.m]\nslots = 1", ["1: models: is an array of tables: write [[models]]"]),
    ("[[model]]\nid = 'm'", ["1: model: is not a setting; did you mean models?"]),
    ("[[orchestrator]]\nprovision = true", ["1: orchestrator: is a table: write [orchestrator]"]),
    ("[orchestrator]\nidle_timeout = 1", ["2: orchestrator.idle_timeout: is not a setting; did you mean idle_timeout_s?"]),
    ("[orchestrator]\nshare_pieces = 'all'", ["2: orchestrator.share_pieces: 'all' is not a choice; accepted: one of own, trusted, any, nobody"]),
    ("[orchestrator]\nmax_wait_s = 0", ["2: orchestrator.max_wait_s: 0 is out of range; accepted: a number of seconds above 0 up to 86400"]),
    ("[orchestrator]\nslots = 0", ["2: orchestrator.slots: is not a setting; did you mean neuron.slots?"]),
]  # fmt: skip


@pytest.mark.parametrize(("text", "lines"), REFUSALS)
def test_a_refusal_names_the_line_the_entry_and_what_is_accepted(
    tmp_path: Path, text: str, lines: list[str]
) -> None:
    assert sorted(refused(tmp_path, text)) == sorted(lines)


def test_all_faults_of_all_entries_are_told_at_once_and_each_once(tmp_path: Path) -> None:
    text = (
        "[[models]]\nid = 'a'\nslots = 'x'\nfallbacks = ['b', 'gone']\n"
        "[[models]]\nid = 'b'\nlabels = 1\naliases = [{ weight = 1 }, 'a']\nsource = 'no'\n"
        "[[models]]\nkeep_warm = 1\n[cortex]\nqueue_max = -1\n"
    )
    told = [
        line.partition("; accepted")[0].partition("; write")[0] for line in refused(tmp_path, text)
    ]
    assert told == [
        "13: cortex.queue_max: -1 is out of range",
        '3: models[0] (a).slots: "x" is not a number',
        "4: models[0] (a).fallbacks[1]: 'gone' is neither a model of the catalogue nor an alias",
        "9: models[1] (b).source: 'no' is not a source",
        "7: models[1] (b).labels: 1 is not a table",
        "8: models[1] (b).aliases[0]: has no name",
        "8: models[1] (b).aliases[0]: 'a' is the id of a model; an alias is another name",
        "10: models[2]: has no id",
        "11: models[2].keep_warm: 1 is neither true nor false",
    ]


def test_more_models_than_a_catalogue_may_have_are_one_refusal(tmp_path: Path) -> None:
    text = "".join(f"[[models]]\nid = 'm{number}'\n" for number in range(ENTRIES_MAX + 1))
    assert refused(tmp_path, text) == [
        f"1: models: 1025 models; accepted are at most {ENTRIES_MAX}"
    ]
    at_most = text.partition(f"[[models]]\nid = 'm{ENTRIES_MAX}'")[0]
    assert len(loaded(tmp_path, at_most).cortex.models) == ENTRIES_MAX


def test_what_is_shown_can_be_written_back(tmp_path: Path) -> None:
    config = loaded(
        tmp_path,
        "[[models]]\nid = 'a'\naliases = ['x:2']\nmemory_bytes = '3GiB'\nclasses = ['embedding']\n"
        "price = { completion = 1 }\n",
    )
    rows = [row for row in shown(config.values.items()) if row[0].startswith("models[0] (a).")]
    text = "[[models]]\n" + "\n".join(
        f"{key.removeprefix('models[0] (a).')} = {value}" for key, value, _ in rows
    )
    assert loaded(tmp_path, text).cortex.models == config.cortex.models
    assert ("models[0] (a).memory_bytes", '"3GiB"', f"{tmp_path / 'helexa.toml'}:4") in rows


def test_settings_of_the_cortex_have_no_way_around_the_sections() -> None:
    for key in ("cortex.models", "cortex.orchestrator", "models", "models.slots"):
        with pytest.raises(ConfigRefused, match="is not a setting"):
            load({key: (f"--set {key}", "1")}, {})


_IDS = st.from_regex(r"[a-z][a-z0-9._:-]{0,6}(/[a-z0-9]{1,4})?", fullmatch=True).filter(
    lambda text: ".." not in text
)
_LINE = st.text(st.characters(categories=("L", "N", "P", "Zs")), max_size=12).filter(
    str.isprintable
)


def _number(low: float, high: float) -> st.SearchStrategy[float]:
    return st.floats(low, high, allow_subnormal=False, exclude_min=True)


@st.composite
def _entry(draw: st.DrawFn, model: str, others: list[str], aliases: list[str]) -> ModelEntry:
    low = draw(st.integers(0, 5))
    return ModelEntry(
        id=model,
        description=draw(_LINE),
        source="https://example.org/a.gguf",
        files=tuple(
            SourceFile(name=name, sha256=draw(st.sampled_from(["", DIGEST])), size=draw(_SIZES))
            for name in draw(
                st.lists(
                    st.from_regex(r"[a-z]{1,5}(/[a-z]{1,5})?", fullmatch=True),
                    unique=True,
                    max_size=3,
                )
            )
        ),
        quantisation=draw(st.sampled_from(["", "Q4_K_M"])),
        context_tokens=draw(st.none() | st.integers(64, 1 << 22)),
        slots=draw(st.none() | st.integers(1, 256)),
        deterministic=draw(st.none() | st.booleans()),
        memory_bytes=draw(_SIZES),
        replicas_min=low,
        replicas_max=draw(st.none() | st.integers(max(low, 1), 9)),
        labels=draw(st.dictionaries(_LINE.filter(bool), _LINE, max_size=2)),
        regions=tuple(draw(st.lists(st.sampled_from(["eu-*", "!us", "ch"]), max_size=2))),
        priority=draw(st.integers(-100, 100)),
        keep_warm=draw(st.booleans()),
        idle_timeout_s=draw(st.none() | _number(0, 31_536_000)),
        aliases=tuple(
            Alias(name=name, weight=draw(_number(0, 1_000_000)))
            for name in draw(st.lists(st.sampled_from(aliases), unique=True, max_size=2))
        )
        if aliases
        else (),
        fallbacks=tuple(draw(st.lists(st.sampled_from(others), unique=True, max_size=2)))
        if others
        else (),
        price=draw(st.none() | st.builds(Price, completion=st.integers(0, 10**15))),
        classes=tuple(draw(st.lists(st.sampled_from(list(WorkloadClass)), max_size=2))),
        pin=draw(st.booleans()),
    )


_SIZES = st.integers(0, 1 << 50)


@st.composite
def _catalogues(draw: st.DrawFn) -> list[ModelEntry]:
    names = draw(st.lists(_IDS, unique=True, min_size=1, max_size=6))
    models = names[: max(1, len(names) // 2)]
    aliases = names[len(models) :]
    # Fallbacks to those before it alone, so that there is no circle.
    return [draw(_entry(model, models[:at], aliases)) for at, model in enumerate(models)]


@given(_catalogues())
def test_entries_written_as_toml_are_read_as_they_were(catalogue: list[ModelEntry]) -> None:
    assert problems(catalogue) == []
    text = "".join(
        "[[models]]\n"
        + "".join(
            f"{name} = {setting.kind.to_toml(value)}\n"
            for name, setting in ENTRY_SETTINGS.items()
            if (value := getattr(entry, name)) is not None
        )
        for entry in catalogue
    )
    found = entries.read(tomllib.loads(text)["models"], lambda _path: DEFAULT, Path("/"))
    assert found.problems == ()
    assert list(found.entries) == catalogue
    # What the control API and the disk hold says the same.
    raw = msgspec.json.encode(catalogue)
    assert msgspec.json.decode(raw, type=list[ModelEntry]) == catalogue


_ANYTHING = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | _LINE,
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from([*ENTRY_SETTINGS, "name", "weight", "x"]), inner, max_size=4
        )
    ),
    max_leaves=12,
)


@given(_ANYTHING)
def test_whatever_stands_there_is_entries_or_problems_and_no_crash(raw: object) -> None:
    found = entries.read(raw, lambda _path: DEFAULT, Path("/"))
    assert len(found.entries) == len(found.origins)
    if not found.problems:
        assert problems(found.entries) == []
        assert CortexSettings(home=Path("/"), models=found.entries).models == found.entries
