"""The adapter of mistral.rs, without its engine: what it takes, plans, and reads out of words."""

from __future__ import annotations

import json
import signal
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from helexa.protocol.errors import Busy, CapabilityMissing, PromptTooLong, RequestRejected
from helexa.protocol.ids import ModelId
from helexa.protocol.work import WorkloadClass
from helexa.runtime import adapters, arguments, own_child
from helexa.runtime.contract import (
    Ability,
    EngineLoad,
    ExitReason,
    Grant,
    Installation,
    ModelFiles,
    ReplicaSpec,
)

ADAPTER = adapters.load("mistral_rs")
FILES = ModelFiles(
    model=ModelId("m"),
    weights=Path("/srv/m.gguf"),
    architecture="qwen3",
    chat_template="{{ tools }} <tool_call> <think>",
    weights_bytes=1 << 20,
)
SPEC = ReplicaSpec(files=FILES, context_tokens=256, slots=3)
GRANT = Grant(socket=Path("/run/x/c.sock"), scratch=Path("/run/x"))


def test_abilities_are_read_off_the_template() -> None:
    full = ADAPTER.serves(FILES)
    plain = ADAPTER.serves(replace(FILES, chat_template="{{ messages }}"))
    bare = ADAPTER.serves(replace(FILES, chat_template=""))
    assert full is not None
    assert plain is not None
    assert bare is not None
    asked = {Ability.TOOLS, Ability.TOOL_CHOICE, Ability.PARALLEL_TOOLS, Ability.REASONING}
    assert full.abilities - plain.abilities == asked
    assert WorkloadClass.CHAT_INTERACTIVE in plain.classes
    assert bare.classes == (WorkloadClass.COMPLETION,)
    assert Ability.SEED not in full.abilities


@pytest.mark.parametrize(
    "more",
    [
        {"architecture": "zork"},
        {"architecture": "bert", "pooling": "mean"},
        {"pooling": "rank"},
        {"projector": Path("/srv/m.mmproj.gguf")},
        {"format": "safetensors", "model_class": "ZorkForCausalLM"},
        {"format": "safetensors", "model_class": "LlamaForCausalLM", "sees": True},
        {"format": "server"},
    ],
)
def test_files_that_it_cannot_run_are_left_to_others(more: dict[str, Any]) -> None:
    assert ADAPTER.serves(replace(FILES, **more)) is None


def test_safetensors_of_a_class_that_it_knows_are_served() -> None:
    files = replace(FILES, format="safetensors", model_class="LlamaForCausalLM", architecture="x")
    assert ADAPTER.serves(files) is not None


def wanted(spec: ReplicaSpec) -> Any:
    return json.loads(ADAPTER.plan(spec, GRANT).argv[-1])


def test_a_deterministic_replica_computes_one_request_at_a_time_and_remembers_none() -> None:
    usual, alone = wanted(SPEC), wanted(replace(SPEC, deterministic=True))
    assert (usual["slots"], usual["at_once"], usual["prefixes"]) == (3, 3, 4)
    assert (alone["slots"], alone["at_once"], alone["prefixes"]) == (3, 1, 0)
    assert ADAPTER.footprint(replace(SPEC, deterministic=True)).reserve == 0


def test_an_environment_of_its_own_is_used_and_its_variables_hold() -> None:
    where = Installation(python=Path("/opt/m/bin/python"), environment={"RUST_LOG": "debug"})
    tuned = arguments.read(ADAPTER, ["threads=3", "prefixes=1"])
    spec = replace(SPEC, installation=where, arguments=tuned)
    plan = ADAPTER.plan(spec, GRANT)
    assert plan.argv[:2] == ("/opt/m/bin/python", "-I")
    assert Path(plan.argv[2]).is_file()
    assert plan.env["RUST_LOG"] == "debug"
    assert plan.env["RAYON_NUM_THREADS"] == "3"
    assert wanted(spec)["prefixes"] == 1


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        ("Unknown normal-model GGUF architecture `zork`", ExitReason.ARCHITECTURE_UNKNOWN),
        ('path: "/x" invalid GGUF magic [6a, 75]', ExitReason.MODEL_UNREADABLE),
        ("GGUF tensor `a` range begins at 1, outside file length 0", ExitReason.MODEL_UNREADABLE),
        ("ModuleNotFoundError: No module named 'mistralrs'", ExitReason.NOT_INSTALLED),
        ("couldn't bind /run/x: Address already in use", ExitReason.SOCKET_TAKEN),
    ],
)
def test_why_it_did_not_start_is_understood(line: str, reason: ExitReason) -> None:
    found = ADAPTER.explain_exit(1, f"x\nmistral_rs did not start: {line}\n")
    assert found.reason is reason
    assert found.detail.endswith(line)


def test_running_out_of_memory_and_being_ended_are_told_apart() -> None:
    out = ADAPTER.explain_exit(-signal.SIGABRT, "memory allocation of 99 bytes failed\n")
    assert out.reason is ExitReason.OUT_OF_MEMORY
    assert ADAPTER.explain_exit(-signal.SIGTERM, "").reason is ExitReason.STOPPED
    assert ADAPTER.explain_exit(-signal.SIGKILL, "").reason is ExitReason.KILLED


def said(code: str, message: str = "x", param: str | None = None, **more: Any) -> bytes:
    error = {"message": message, "type": "t", "param": param, "code": code, **more}
    return json.dumps({"error": error}).encode()


def test_what_our_server_refuses_is_what_a_client_of_any_runtime_is_told() -> None:
    def meaning(status: int, body: bytes) -> Any:
        return own_child.meaning(status, body, SPEC, runtime="mistral_rs")

    long = meaning(400, said("context_length_exceeded", n_prompt_tokens=300, n_ctx=256))
    lacking = meaning(400, said("unsupported_capability", param="echo"))
    unknown = meaning(400, said("unknown_field", param="frobnicate"))
    assert isinstance(long, PromptTooLong)
    assert (long.tokens, long.tokens_max) == (300, 256)
    assert isinstance(lacking, CapabilityMissing)
    assert isinstance(unknown, CapabilityMissing)
    assert "mistral_rs" in lacking.message
    assert (unknown.param, unknown.status) == ("frobnicate", 400)
    assert isinstance(meaning(503, said("overloaded")), Busy)
    wrong = meaning(400, said("bad_request", "no such grammar", "grammar"))
    assert isinstance(wrong, RequestRejected)
    assert wrong.param == "grammar"


def test_the_load_is_read_and_nonsense_is_nothing() -> None:
    told = b'{"running": 1, "waiting": 2, "kv_share": null, "cached_tokens": 7}'
    assert own_child.load(told) == EngineLoad(running=1, waiting=2, cached_tokens=7)
    assert own_child.load(b"<html>") == EngineLoad()
