"""A whole neuron with the real runtime, its doors, and a cortex on a mesh in memory."""

from __future__ import annotations

import hashlib
import hmac
import json
import os
import stat
import tempfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import anyio
import psutil
import pytest
from tests.neuron.bench import PATIENCE_S, Reply, events_of
from tests.neuron.cortexes import MODEL, Cortex, cortex

from helexa.mesh.sessions.session import PeerRefused, Session
from helexa.mesh.ticket import Ticket, TicketMalformed
from helexa.mesh.transport import LinkClosed
from helexa.mesh.transports.memory import MemoryNetwork
from helexa.neuron.app import Neuron, running
from helexa.neuron.settings import NeuronSettings
from helexa.protocol.ids import ModelId, RequestId, new_request_id
from helexa.protocol.messages import (
    AnnounceCapabilities,
    Cancel,
    Drain,
    ExecuteRequest,
    Goodbye,
    Hello,
    LoadModel,
    ModelConfig,
    ModelSource,
    Ok,
    ProvisioningResponse,
    PullModel,
    Register,
    RemoveModel,
    ReportHealth,
    RequestCapabilities,
    RequestHealth,
    Role,
    UnloadModel,
    UpsertModelConfig,
)
from helexa.protocol.version import VERSION, VERSION_MIN
from helexa.protocol.work import ModelState, Progress
from helexa.testing import tiny_gguf
from helexa.testing.hub import Fault, Hub
from helexa.util.home import HomeUnusable
from helexa.util.host import host_mark
from helexa.util.sockets import Address, AddressTaken
from helexa.util.upstream import Pool, Streams, Tcp, Unix

pytestmark = pytest.mark.anyio

CHAT = "/v1/chat/completions"
ASK: dict[str, Any] = {
    "model": MODEL,
    "messages": [{"role": "user", "content": "hi"}],
    "temperature": 0,
    "max_tokens": 8,
}
ENDLESS = json.dumps({**ASK, "max_tokens": 100_000, "stream": True}).encode()


@pytest.fixture
def network() -> MemoryNetwork:
    return MemoryNetwork()


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("models")
    tiny_gguf.write(folder / "tiny.gguf", context_tokens=1 << 20)
    (folder / "page.gguf").write_bytes(b"<html>" * 99)
    return folder


def settings(tmp_path: Path, models: Path, /, **more: Any) -> NeuronSettings:
    wanted: dict[str, Any] = {
        "home": tmp_path / "home",
        "models_dir": models,
        "api_socket": Address("127.0.0.1", 0),
        "control_socket": Address("memory", 0),
        "demo_models": False,
        "memory_reserve": 0,
        "name": "n1",
        "slots": 1,
        "context_tokens": 65_536,
        "shutdown_grace_s": 0.2,
        "lan": False,
    }
    return NeuronSettings(**{**wanted, **more})


def over(network: Any) -> dict[str, Any]:
    return {"iroh": network.open_transport}


@asynccontextmanager
async def api(neuron: Neuron) -> AsyncIterator[Pool]:
    port = int(neuron.api_url.rpartition(":")[2])
    async with Pool(Tcp("127.0.0.1", port)).running() as pool:
        yield pool


async def ask(
    pool: Pool, method: str, path: str, body: Any = b"", headers: dict[str, str] | None = None
) -> Reply:
    data = body if isinstance(body, bytes) else json.dumps(body).encode()
    sent = [(k.encode(), v.encode()) for k, v in (headers or {}).items()]
    with anyio.fail_after(PATIENCE_S):
        with await pool.request(method, path, sent, data) as response:
            content = await response.read(1 << 22)
            return Reply(response.status, dict(response.headers), content)


def children() -> list[psutil.Process]:
    return psutil.Process().children(recursive=True)


async def test_a_neuron_without_any_cortex_serves_on_its_api_socket(
    tmp_path: Path, models: Path, network: MemoryNetwork
) -> None:
    seen: list[Any] = []
    before = {each.pid for each in children()}
    async with running(
        settings(tmp_path, models),
        events=seen.append,
        open_transports=over(network),
    ) as neuron:
        async with api(neuron) as pool:
            whole = await ask(pool, "POST", CHAT, ASK)
            stream = await ask(pool, "POST", CHAT, {**ASK, "stream": True})
            broken = await ask(pool, "POST", CHAT, {**ASK, "model": "page"})
            listed = await ask(pool, "GET", "/v1/models")
        started = [each for each in children() if each.pid not in before]
        assert started
    text = whole.json["choices"][0]["message"]["content"]
    assert len(text) == 8
    assert whole.json["model"] == MODEL
    assert whole.json["usage"]["completion_tokens"] == 8
    *chunks, done = stream.events
    assert done == "[DONE]"
    assert "".join(c["choices"][0]["delta"].get("content") or "" for c in chunks) == text
    assert broken.status == 503
    assert "no GGUF file" in broken.error["message"]
    states = {each["id"]: each["helexa"]["state"] for each in listed.json["data"]}
    assert states == {"tiny": "loaded", "page": "failed"}
    assert {"event": "model", "model": "tiny", "state": "loaded", "reason": ""} in seen
    assert not any(each.is_running() for each in started)
    assert not (tmp_path / "home/run/work.sock").exists()
    assert not (tmp_path / "home/run.json").exists()


async def test_the_home_is_private_and_taken_once(
    tmp_path: Path, models: Path, network: MemoryNetwork
) -> None:
    wanted = settings(tmp_path, models)
    async with running(wanted, open_transports=over(network)) as neuron:
        modes = {
            name: stat.S_IMODE((wanted.home / name).stat().st_mode)
            for name in ("api.token", "node.key", "run/work.sock")
        }
        assert modes == {"api.token": 0o600, "node.key": 0o600, "run/work.sock": 0o600}
        with pytest.raises(HomeUnusable, match=f"pid {os.getpid()}"):
            async with running(wanted, open_transports=over(network)):
                raise AssertionError("two neurons in one home")
        taken = settings(tmp_path, models, home=tmp_path / "other", api_socket=_api_address(neuron))
        with pytest.raises(AddressTaken):
            async with running(taken, open_transports=over(network)):
                raise AssertionError("two neurons on one socket")
        first = neuron.node_id
    async with running(wanted, open_transports=over(network)) as again:
        assert again.node_id == first


def _api_address(neuron: Neuron) -> Address:
    return Address("127.0.0.1", int(neuron.api_url.rpartition(":")[2]))


async def test_what_a_killed_neuron_left_is_removed_at_the_next_start(
    tmp_path: Path, models: Path, network: MemoryNetwork
) -> None:
    wanted = settings(tmp_path, models)
    left = wanted.home / "run/abcdefgh/child.sock"
    left.parent.mkdir(parents=True)
    left.touch()
    async with running(wanted, open_transports=over(network)):
        assert not left.parent.exists()
        assert left.parent.parent.exists()
    assert not left.parent.parent.exists()


async def test_status_is_for_the_token_and_says_what_runs(
    tmp_path: Path, models: Path, network: MemoryNetwork
) -> None:
    wanted = settings(tmp_path, models)
    async with (
        running(wanted, open_transports=over(network)) as neuron,
        api(neuron) as p,
    ):
        assert (await ask(p, "GET", "/api/v1/status")).status == 401
        token = neuron.admin_token_path.read_text().strip()
        bearer = {"authorization": f"Bearer {token}"}
        status = (await ask(p, "GET", "/api/v1/status", headers=bearer)).json
        loaded = await ask(p, "POST", "/api/v1/models/tiny/load", headers=bearer)
    assert status["node_id"] == neuron.node_id
    assert {each["model"]: each["state"] for each in status["models"]} == {
        "tiny": "unloaded",
        "page": "failed",
    }
    assert status["load"]["memory_free_bytes"] > 0
    assert loaded.json["state"] == "loaded"


async def test_a_neuron_dials_its_cortex_registers_and_says_goodbye(
    tmp_path: Path, models: Path, network: MemoryNetwork
) -> None:
    async with cortex(network) as far:
        wanted = settings(tmp_path, models, cortexes=(str(far.mesh.ticket()),), region="eu")
        async with running(wanted, open_transports=over(network)) as neuron:
            register = await far.heard(Register)
            assert register.descriptor.node == neuron.node_id
            assert (register.descriptor.name, register.descriptor.region) == ("n1", "eu")
            assert register.paths[0].host == host_mark()
            first = await far.heard(ReportHealth)
            assert first.load.sequence == 1
            await neuron.roster.load(MODEL)
            await far.state(MODEL, ModelState.LOADED)
            await far.until(lambda: _digest_of(far) or None)
        assert (await far.heard(Goodbye)).reason == "this neuron shuts down"


def _digest_of(far: Cortex) -> str:
    latest = [one for one in far.told if isinstance(one, AnnounceCapabilities)][-1]
    return next(each.digest for each in latest.capabilities if each.model == MODEL)


async def test_a_cortex_that_dials_in_is_served_too(
    tmp_path: Path, models: Path, network: MemoryNetwork
) -> None:
    async with cortex(network) as far:
        # Its key is known here and its address is not, so only it can begin.
        unreachable = str(Ticket(node=far.mesh.node_id, addresses={}))
        wanted = settings(tmp_path, models, cortexes=(unreachable,))
        async with (
            running(wanted, open_transports=over(network)) as neuron,
            anyio.create_task_group() as tasks,
        ):
            tasks.start_soon(far.mesh.keep_connected, Ticket.parse(neuron.ticket))
            assert (await far.heard(Register)).descriptor.node == neuron.node_id
            tasks.cancel_scope.cancel()


async def test_a_cortex_whose_ticket_was_not_given_commands_nothing(
    tmp_path: Path, models: Path, network: MemoryNetwork
) -> None:
    async with (
        running(settings(tmp_path, models), open_transports=over(network)) as neuron,
        cortex(network) as stranger,
    ):
        link = await stranger.mesh.dial(Ticket.parse(neuron.ticket))
        hello = Hello(role=Role.CORTEX, lowest=VERSION_MIN, highest=VERSION)
        async with Session.running(link, hello, stranger.on_message, stranger.on_stream) as session:
            with pytest.raises((PeerRefused, LinkClosed)):
                await session.ask(LoadModel(command="c1", model=MODEL), timeout_s=PATIENCE_S)
            with anyio.fail_after(PATIENCE_S):
                closed = await session.wait_closed()
        assert "ticket" in closed.reason
        assert stranger.told == []
        states = {each.state for each in neuron.roster.capabilities() if each.model == MODEL}
        assert states == {ModelState.UNLOADED}


async def test_a_neuron_comes_back_to_a_cortex_that_was_away(
    tmp_path: Path, models: Path, network: MemoryNetwork
) -> None:
    async with cortex(network) as far:
        wanted = settings(tmp_path, models, cortexes=(str(far.mesh.ticket()),))
        async with running(wanted, open_transports=over(network)):
            session = await far.connected()
            await far.heard(Register)
            await session.close(reason="test")
            await far.until(lambda: far.sessions == 2 or None)
            await far.until(lambda: sum(isinstance(one, Register) for one in far.told) == 2 or None)


@pytest.fixture
def joined(tmp_path: Path, models: Path, network: MemoryNetwork) -> Any:
    @asynccontextmanager
    async def made(**more: Any) -> AsyncIterator[tuple[Neuron, Cortex]]:
        async with cortex(network) as far:
            tickets = (str(far.mesh.ticket()),)
            wanted = settings(tmp_path, models, cortexes=tickets, **more)
            async with running(wanted, open_transports=over(network)) as neuron:
                await far.heard(Register)
                yield neuron, far

    return made


async def test_a_cortex_loads_configures_and_unloads_models(joined: Any) -> None:
    async with joined() as (_, far):
        config = ModelConfig(slots=2, context_tokens=128)
        await far.ask(UpsertModelConfig(command="c0", model=MODEL, config=config))
        loaded = await far.ask(LoadModel(command="c1", model=MODEL))
        assert isinstance(loaded, ProvisioningResponse)
        assert (loaded.command, loaded.state, loaded.final) == ("c1", ModelState.LOADED, True)
        answer = await far.ask(RequestCapabilities())
        assert isinstance(answer, AnnounceCapabilities)
        tiny = next(each for each in answer.capabilities if each.model == MODEL)
        assert (tiny.slots, tiny.context_tokens, tiny.runtime) == (2, 128, "llama_cpp")
        unloaded = await far.ask(UnloadModel(command="c2", model=MODEL))
        assert isinstance(unloaded, ProvisioningResponse)
        assert unloaded.state is ModelState.UNLOADED
        health = await far.ask(RequestHealth())
        assert isinstance(health, ReportHealth)


@pytest.mark.parametrize(
    ("model", "code"),
    [("nobody", "model_not_found"), ("../tiny", "model_not_found"), ("page", "no_capacity")],
)
async def test_what_cannot_be_loaded_is_refused_with_the_reason(
    joined: Any, model: str, code: str
) -> None:
    async with joined() as (_, far):
        with pytest.raises(PeerRefused) as caught:
            await far.ask(LoadModel(command="c", model=model))
        assert caught.value.code == code


async def test_a_model_that_does_not_fit_is_refused_with_the_numbers(joined: Any) -> None:
    async with joined(memory_limit=1 << 20) as (_, far):
        with pytest.raises(PeerRefused) as caught:
            await far.ask(LoadModel(command="c", model=MODEL))
        assert caught.value.code == "does_not_fit"
        assert "MiB is free" in caught.value.message


async def test_a_draining_neuron_tells_its_cortex(joined: Any) -> None:
    async with joined() as (neuron, far):
        assert await far.ask(Drain()) == Ok()
        assert neuron.roster.draining
        await far.until(
            lambda: next(
                (True for one in far.told if isinstance(one, ReportHealth) and one.load.draining),
                None,
            )
        )


async def test_requests_come_over_streams_of_the_mesh(joined: Any) -> None:
    async with joined() as (_, far):
        session = await far.connected()

        async def stream() -> Any:
            return await session.open_data(ExecuteRequest(request=new_request_id()))

        async with Pool(Streams(stream)).running() as pool:
            reply = await ask(pool, "POST", CHAT, {**ASK, "stream": True})
            managed = await ask(pool, "GET", "/api/v1/status")
        assert reply.events[-1] == "[DONE]"
        assert managed.status == 404


async def test_a_mesh_stream_that_is_given_up_frees_its_slot(joined: Any) -> None:
    async with joined() as (neuron, far):
        session = await far.connected()

        async def stream() -> Any:
            return await session.open_data(ExecuteRequest(request=new_request_id()))

        async with Pool(Streams(stream)).running() as pool:
            with anyio.fail_after(PATIENCE_S):
                with await pool.request("POST", CHAT, (), ENDLESS) as response:
                    await response.chunk()
                replica = await neuron.roster.replica(MODEL)
                await replica.gate.emptied()
                # The engine's only slot is free as well: this one ends.
                assert (await ask(pool, "POST", CHAT, ASK)).status == 200


async def test_the_work_socket_is_for_who_was_given_its_token(joined: Any) -> None:
    async with joined() as (_, far):
        path = (await far.heard(Register)).paths[0]
        token = {"x-helexa-token": path.token}
        async with Pool(Unix(path.address)).running() as pool:
            assert (await ask(pool, "POST", CHAT, ASK)).status == 401
            assert (await ask(pool, "POST", CHAT, ASK, token)).status == 200
            proof = await ask(
                pool, "GET", "/helexa/v1/path", headers={**token, "x-helexa-nonce": "n"}
            )
            managed = await ask(pool, "POST", "/api/v1/models/tiny/unload", headers=token)
        expected = hmac.new(path.token.encode(), b"n", hashlib.sha256).hexdigest()
        assert proof.content == expected.encode()
        assert managed.status == 404


async def test_a_long_home_gets_a_socket_with_a_short_path(
    tmp_path: Path, models: Path, network: MemoryNetwork
) -> None:
    home = tmp_path / ("long" * 30)
    assert len(str(home)) > 107
    async with cortex(network) as far:
        wanted = settings(tmp_path, models, home=home, cortexes=(str(far.mesh.ticket()),))
        async with running(wanted, open_transports=over(network)):
            path = (await far.heard(Register)).paths[0]
            async with Pool(Unix(path.address)).running() as pool:
                reply = await ask(pool, "GET", "/healthz", headers={"x-helexa-token": path.token})
            assert reply.status == 200
    assert not Path(path.address).parent.exists()


async def test_a_cortex_cancels_a_request_by_its_id(joined: Any) -> None:
    async with joined() as (neuron, far), api(neuron) as pool:
        with anyio.fail_after(PATIENCE_S):
            headers = ((b"x-helexa-request-id", b"req_x"),)
            with await pool.request("POST", CHAT, headers, ENDLESS) as response:
                await response.chunk()
                await (await far.connected()).tell(Cancel(request=RequestId("req_x")))
                rest = await response.read(1 << 26)
        assert "cancelled" in events_of(rest)[-1]["error"]["message"]


async def test_a_shutdown_ends_streams_at_the_grace_with_the_reason_and_nothing_left_behind(
    tmp_path: Path, models: Path, network: MemoryNetwork
) -> None:
    before = {each.pid for each in children()}
    with anyio.fail_after(PATIENCE_S):
        async with anyio.create_task_group() as tasks:
            begun = anyio.Event()

            async def endless(neuron: Neuron) -> None:
                async with api(neuron) as pool:
                    with await pool.request("POST", CHAT, (), ENDLESS) as response:
                        await response.chunk()
                        begun.set()
                        last = events_of(await response.read(1 << 28))[-1]
                        assert last["error"]["code"] == "draining"

            async with running(settings(tmp_path, models), open_transports=over(network)) as neuron:
                tasks.start_soon(endless, neuron)
                await begun.wait()
    assert {each.pid for each in children()} <= before


async def test_a_preloaded_model_is_loaded_and_one_that_fails_is_told(
    tmp_path: Path, models: Path, network: MemoryNetwork
) -> None:
    seen: list[Any] = []
    both = anyio.Event()

    def hear(event: Any) -> None:
        seen.append(event)
        if {"loaded"} <= {each.get("state") for each in seen} and any(
            each["event"] == "preload_failed" for each in seen
        ):
            both.set()

    wanted = settings(tmp_path, models, preload=("tiny", "page"))
    with anyio.fail_after(PATIENCE_S):
        async with running(wanted, events=hear, open_transports=over(network)):
            await both.wait()


async def test_a_peer_that_is_no_cortex_is_sent_away(
    tmp_path: Path, models: Path, network: MemoryNetwork
) -> None:
    async with (
        running(settings(tmp_path, models), open_transports=over(network)) as neuron,
        cortex(network, role=Role.NEURON) as far,
    ):
        link = await far.mesh.dial(Ticket.parse(neuron.ticket))
        hello = Hello(role=Role.NEURON, lowest=VERSION_MIN, highest=VERSION)
        async with Session.running(link, hello, far.on_message, far.on_stream) as session:
            with anyio.fail_after(PATIENCE_S):
                closed = await session.wait_closed()
        assert "ticket" in closed.reason
        assert far.told == []


async def test_the_api_may_be_a_unix_socket(
    tmp_path: Path, models: Path, network: MemoryNetwork
) -> None:
    with tempfile.TemporaryDirectory(prefix="hx-") as folder:
        path = Path(folder) / "api.sock"
        wanted = settings(tmp_path, models, api_socket=Address.parse(f"unix:{path}"))
        async with running(wanted, open_transports=over(network)) as neuron:
            assert neuron.api_url == f"unix:{path}"
            async with Pool(Unix(str(path))).running() as pool:
                assert (await ask(pool, "GET", "/v1/models")).status == 200
        assert not path.exists()


async def test_what_cannot_work_is_refused_before_anything_starts(
    tmp_path: Path, models: Path, network: MemoryNetwork
) -> None:
    with pytest.raises(TicketMalformed):
        async with running(
            settings(tmp_path, models, cortexes=("helexa-nonsense",)),
            open_transports=over(network),
        ):
            raise AssertionError("it started")
    file = models / "tiny.gguf"
    with pytest.raises(HomeUnusable, match="models folder"):
        async with running(settings(tmp_path, file), open_transports=over(network)):
            raise AssertionError("it started")


async def test_a_cortex_pulls_a_model_watches_it_come_uses_it_and_removes_it(
    tmp_path: Path, network: MemoryNetwork
) -> None:
    data = tiny_gguf.write(tmp_path / "source.gguf", context_tokens=512).read_bytes()
    folder = tmp_path / "pulled"
    async with Hub.running() as hub, cortex(network) as far:
        hub.repo("org/new").commit({"new-Q8_0.gguf": data})
        hub.mood.faults.append(Fault(path="sig=", stall_after=100))
        wanted = settings(
            tmp_path,
            folder,
            cortexes=(str(far.mesh.ticket()),),
            hub=hub.url,
            disk_reserve=0,
            pull_stall_s=1.0,
        )
        pull = PullModel(command="p", model=ModelId("new"), source=ModelSource(source="hf:org/new"))
        async with running(wanted, open_transports=over(network)) as neuron:
            await far.heard(Register)
            begun = await far.begin(pull)
            assert (begun.state, begun.final) == (ModelState.DOWNLOADING, False)
            await far.state("new", ModelState.DOWNLOADING)
            told = await far.until(lambda: _progress_of(far, "new"))
            assert told.bytes_total == len(data)
            async with api(neuron) as pool:
                early = await ask(pool, "POST", CHAT, {**ASK, "model": "new"})
                assert early.status == 503
                assert early.error["code"] == "model_loading"
                assert early.error["progress"]["phase"] == "downloading"
                await far.state("new", ModelState.UNLOADED)
                served = await ask(pool, "POST", CHAT, {**ASK, "model": "new"})
                assert served.status == 200
            again = await far.ask(pull)
            assert isinstance(again, ProvisioningResponse)
            assert (again.state, again.final) == (ModelState.LOADED, True)
            remove = RemoveModel(command="r", model=ModelId("new"))
            with pytest.raises(PeerRefused, match="unload it"):
                await far.ask(remove)
            await far.ask(UnloadModel(command="u", model=ModelId("new")))
            gone = await far.ask(remove)
            assert isinstance(gone, ProvisioningResponse)
            assert (gone.state, gone.final) == (ModelState.UNLOADED, True)
            assert not (folder / "new.gguf").exists()
            health = await far.ask(RequestHealth())
            assert isinstance(health, ReportHealth)
            assert health.load.disk_free_bytes > 0


def _progress_of(far: Cortex, model: str) -> Progress | None:
    reports = [one.load.progress for one in far.told if isinstance(one, ReportHealth)]
    found = [each.progress for each in (reports[-1] if reports else ()) if each.model == model]
    return found[0] if found and found[0].bytes_total else None


async def test_a_pull_is_asked_for_stopped_and_removed_on_the_api_socket(
    tmp_path: Path, network: MemoryNetwork
) -> None:
    data = tiny_gguf.write(tmp_path / "source.gguf").read_bytes()
    async with Hub.running() as hub:
        hub.plain["w.gguf"] = data
        hub.mood.faults.append(Fault(path="w.gguf", times=2, stall_after=0))
        wanted = settings(tmp_path, tmp_path / "pulled", disk_reserve=0)
        async with (
            running(wanted, open_transports=over(network)) as neuron,
            api(neuron) as pool,
        ):
            token = neuron.admin_token_path.read_text().strip()
            bearer = {"authorization": f"Bearer {token}"}
            path = "/api/v1/models/team/w"
            body = {"source": hub.plain_url("w.gguf"), "pin": True}
            assert (await ask(pool, "POST", f"{path}/pull", body)).status == 401
            for bad in ({}, {"source": 7}, {**body, "more": 1}, b"no json"):
                refused = await ask(pool, "POST", f"{path}/pull", bad, bearer)
                assert (refused.status, refused.error["code"]) == (400, "invalid_body")
            asked = await ask(pool, "POST", f"{path}/pull", body, bearer)
            assert (asked.status, asked.json["state"]) == (202, "downloading")
            stopped = await ask(pool, "DELETE", f"{path}/pull", headers=bearer)
            assert (stopped.status, stopped.json["state"]) == (200, "unloaded")
            hub.mood.faults.clear()
            await ask(pool, "POST", f"{path}/pull", body, bearer)
            while (await ask(pool, "GET", "/v1/models/team/w")).status != 200:
                status = (await ask(pool, "GET", "/api/v1/status", headers=bearer)).json
                assert [one["state"] for one in status["models"]] in (["downloading"], ["unloaded"])
            here = (await ask(pool, "GET", "/v1/models/team/w")).json["helexa"]
            assert here["source"] == hub.plain_url("w.gguf")
            assert (here["pinned"], here["disk_bytes"]) == (True, len(data))
            gone = await ask(pool, "DELETE", path, headers=bearer)
            assert (gone.status, gone.json["state"]) == (200, "unloaded")
            assert (await ask(pool, "DELETE", path, headers=bearer)).status == 404
            assert (await ask(pool, "GET", path, headers=bearer)).status == 405
