"""A `llama-server` of the operator's in place of the packaged engine: it keeps all the same."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import msgspec
import pytest
from tests.neuron.answers import calls, choice
from tests.neuron.test_app import api, ask
from tests.neuron.test_real_runtime import CHAT, CLOCK, TOOLS_TEMPLATE, chat, settings

from helexa.mesh.transports.memory import MemoryNetwork
from helexa.neuron.app import running
from helexa.neuron.settings import ModelSettings, RuntimeSettings
from helexa.testing import conformance, tiny_gguf

pytestmark = pytest.mark.anyio


async def test_it_conforms(llama_server: Path) -> None:
    runtimes = {"llama_cpp": RuntimeSettings(program=llama_server)}
    found = await conformance.look("llama_cpp", "helexa-demo", more={"runtimes": runtimes})
    assert not found.failures, found.failures


async def _asked(
    tmp_path: Path, where: RuntimeSettings, served: ModelSettings, body: dict[str, Any]
) -> Any:
    folder = tmp_path / "models"
    tiny_gguf.write(folder / "tools.gguf", chat_template=TOOLS_TEMPLATE)
    usual = settings(tmp_path, folder, slots=2, runtimes={"llama_cpp": where})
    wanted = msgspec.structs.replace(usual, models={"tools": served})
    opened = running(wanted, open_transports={"iroh": MemoryNetwork().open_transport})
    async with opened as live, api(live) as pool:
        return await ask(pool, "POST", CHAT, body)


async def test_arguments_and_deterministic_reach_it_and_calls_hold(
    tmp_path: Path, llama_server: Path
) -> None:
    served = ModelSettings(
        deterministic=True,
        context_tokens=2048,
        arguments=("n_batch=64", "n_ubatch=32", "threads=1", "use_mmap=false", "cache_type_k=f16"),
    )
    body = chat("tools", tools=[CLOCK], tool_choice="required", parallel_tool_calls=False)
    where = RuntimeSettings(program=llama_server, environment={"GGML_TEST": "1"})
    reply = await _asked(tmp_path, where, served, {**body, "max_tokens": 200})
    assert choice(reply)["finish_reason"] in ("tool_calls", "length")
    if choice(reply)["finish_reason"] == "tool_calls":
        assert [name for name, _ in calls(reply)] == ["get_time"]


async def test_it_embeds_like_the_packaged_engine(tmp_path: Path, llama_server: Path) -> None:
    tiny_gguf.write(tmp_path / "models" / "embed.gguf", pooling=1, context_tokens=256)
    vectors = []
    for where in (RuntimeSettings(program=llama_server), RuntimeSettings()):
        wanted = settings(tmp_path, tmp_path / "models", slots=2, runtimes={"llama_cpp": where})
        opened = running(wanted, open_transports={"iroh": MemoryNetwork().open_transport})
        async with opened as live, api(live) as pool:
            body = {"model": "embed", "input": ["a", "b" * 200]}
            reply = await ask(pool, "POST", "/v1/embeddings", body)
            vectors.append([each["embedding"] for each in reply.json["data"]])
    for one, other in zip(*vectors, strict=True):
        assert one == pytest.approx(other, abs=1e-4)


async def test_a_word_that_it_does_not_take_is_said_to_who_asked(
    tmp_path: Path, llama_server: Path
) -> None:
    where = RuntimeSettings(program=llama_server, arguments=("--no-such-flag",))
    reply = await _asked(tmp_path, where, ModelSettings(), chat("tools"))
    assert reply.status == 502
    assert "invalid argument: --no-such-flag" in reply.error["message"]


async def test_a_program_that_is_not_there_is_said(tmp_path: Path) -> None:
    where = RuntimeSettings(program=tmp_path / "llama-server")
    reply = await _asked(tmp_path, where, ModelSettings(), chat("tools"))
    assert reply.status == 502
