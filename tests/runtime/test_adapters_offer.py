"""What an adapter offers it has methods for; what it does not, it refuses by name.

Asked of every file of the folder, for models of every form that it would serve.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from helexa.neuron.supervisor.engine import Lent, NotStarted, launched
from helexa.protocol.errors import CapabilityMissing, HelexaError, ModalityUnsupported
from helexa.protocol.work import WorkloadClass
from helexa.runtime import adapters
from helexa.runtime.contract import (
    Ability,
    Capabilities,
    Chat,
    Embedding,
    ExitReason,
    Grant,
    Installation,
    ModelFiles,
    PackagedAdapter,
    ReplicaSpec,
    Requirement,
    Rerank,
    RuntimeAdapter,
    Text,
)
from helexa.runtime.shaping import shaped
from helexa.testing.conformance import imagined
from helexa.testing.conformance.rows import ROWS, Row

NAMES = adapters.names()
ENGINES = ("xllamacpp", "vllm", "torch", "transformers", "mistralrs")
METHODS: dict[WorkloadClass, type[Any]] = {
    WorkloadClass.CHAT_INTERACTIVE: Chat,
    WorkloadClass.CHAT_BULK: Chat,
    WorkloadClass.VISION: Chat,
    WorkloadClass.COMPLETION: Text,
    WorkloadClass.EMBEDDING: Embedding,
    WorkloadClass.RERANK: Rerank,
}
CANARY = "canary-8f1c"
WHERE = Installation(
    command=("server", "{weights}", "--socket", "{socket}"), key=f"key-{CANARY}", environment={}
)


def spec_of(files: ModelFiles) -> ReplicaSpec:
    return ReplicaSpec(files=files, context_tokens=256, slots=2, installation=WHERE)


def served(adapter: RuntimeAdapter) -> list[tuple[ModelFiles, Capabilities]]:
    """Every imagined model that it would run; told of all abilities, and of one at a time."""
    models = [*imagined.models()]
    models += [
        replace(one, told=replace(imagined.EVERYTHING, abilities=frozenset({ability})))
        for one in models[-1:]
        for ability in Ability
    ]
    found = [(one, adapter.serves(one)) for one in models]
    return [(one, offered) for one, offered in found if offered is not None]


@pytest.mark.parametrize("name", NAMES)
def test_it_serves_some_model_and_has_the_methods_for_what_it_offers(name: str) -> None:
    adapter = adapters.load(name)
    assert served(adapter)
    for files, offered in served(adapter):
        for one in offered.classes:
            wanted = METHODS.get(one)
            if wanted is not None:
                assert isinstance(adapter, wanted), f"{files.format} {files.architecture}: {one}"


@pytest.mark.parametrize("name", NAMES)
def test_there_is_a_plan_and_a_footprint_for_each_form_that_it_serves(name: str) -> None:
    adapter = adapters.load(name)
    grant = Grant(socket=Path("/run/x/c.sock"), scratch=Path("/run/x"), port=1, secret="s")
    for files, _ in served(adapter):
        assert adapter.footprint(spec_of(files)).total >= 0
        assert adapter.plan(spec_of(files), grant).ready_within_s > 0


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("row", [row for row in ROWS if row.asks], ids=lambda row: row.word)
def test_what_is_not_offered_is_refused_by_name_and_what_is_offered_is_not(
    name: str, row: Row
) -> None:
    adapter = adapters.load(name)
    assert row.asks is not None
    assert row.declared is not None
    endpoint, body = row.asks
    data = json.dumps({"model": "imagined", **body}).encode()
    for files, offered in served(adapter):
        needs = METHODS[row.for_class or WorkloadClass.CHAT_INTERACTIVE]
        if not isinstance(adapter, needs) or row.for_class not in offered.classes:
            continue
        refused: HelexaError | None = None
        try:
            shaped(adapter, endpoint, data, spec_of(files))
        except HelexaError as error:
            refused = error
        if row.declared(offered):
            assert not isinstance(refused, CapabilityMissing | ModalityUnsupported), files
        else:
            assert isinstance(refused, CapabilityMissing), f"{refused} for {files}"
            assert (refused.status, refused.runtime) == (400, name)
            assert name in refused.message


@pytest.mark.parametrize("name", NAMES)
def test_a_picture_for_a_model_without_eyes_is_refused(name: str) -> None:
    adapter = adapters.load(name)
    (row,) = (row for row in ROWS if row.word == "vision")
    assert row.asks is not None
    assert row.declared is not None
    endpoint, body = row.asks
    for files, offered in served(adapter):
        if WorkloadClass.CHAT_INTERACTIVE in offered.classes and not row.declared(offered):
            with pytest.raises((ModalityUnsupported, CapabilityMissing)):
                shaped(adapter, endpoint, json.dumps(body).encode(), spec_of(files))


# --- installs


def test_every_adapter_is_imported_where_no_engine_is_installed() -> None:
    code = (
        "import sys\n"
        f"sys.modules.update(dict.fromkeys({ENGINES!r}))\n"
        "from helexa.runtime import adapters\n"
        "for name in adapters.names():\n"
        "    assert adapters.load(name).name == name\n"
        "print(*adapters.names())\n"
    )
    done = subprocess.run(
        [sys.executable, "-I", "-c", code], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.split() == list(NAMES)


@pytest.mark.anyio
@pytest.mark.parametrize("name", NAMES)
async def test_a_missing_install_is_named_with_its_command_when_a_model_is_loaded(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    adapter = adapters.load(name)
    if not isinstance(adapter, PackagedAdapter):
        assert adapters.is_installed(adapter)
        return
    requirement: Requirement = adapter.requirement
    assert requirement.install
    monkeypatch.setattr(adapters, "is_installed", lambda *_: False)
    (files, _), *_ = served(adapter)
    spec = replace(spec_of(files), installation=Installation())
    with pytest.raises(NotStarted) as caught:
        async with launched(adapter, spec, tmp_path, Lent()):
            pass
    assert caught.value.exit.reason is ExitReason.NOT_INSTALLED
    assert requirement.install in caught.value.exit.detail


# --- secrets


@pytest.mark.parametrize("name", NAMES)
def test_a_plan_holds_nothing_of_the_neurons_and_no_secret_where_everybody_reads_it(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Command lines are shown to every user of a machine; an environment to its owner alone."""
    adapter = adapters.load(name)
    monkeypatch.setitem(os.environ, "HELEXA_API_TOKEN", f"own-{CANARY}")
    grant = Grant(
        socket=Path("/run/x/c.sock"), scratch=Path("/run/x"), port=1, secret=f"secret-{CANARY}"
    )
    for files, _ in served(adapter):
        plan = adapter.plan(spec_of(files), grant)
        assert CANARY not in " ".join(plan.argv)
        assert f"own-{CANARY}" not in repr(plan)
