"""A neuron in a thread of its own for the length of a block, and a plain client for it."""

from __future__ import annotations

import http.client
import json
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import anyio.from_thread
from anyio.from_thread import BlockingPortal

from helexa.mesh.transports.memory import MemoryNetwork
from helexa.neuron.app import Neuron, running
from helexa.neuron.settings import NeuronSettings
from helexa.neuron.supervisor.engine import Engine
from helexa.protocol.ids import ModelId
from helexa.util.sockets import Address

CHAT = "/v1/chat/completions"
TEXT = "/v1/completions"
PATIENCE_S = 600


@dataclass(frozen=True)
class Reply:
    status: int
    content: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.content)

    @property
    def message(self) -> dict[str, Any]:
        assert self.status == 200, self.content[:2000]
        found: dict[str, Any] = self.json["choices"][0]["message"]
        return found

    @property
    def text(self) -> str:
        return str(self.message["content"])

    @property
    def calls(self) -> list[tuple[str, Any]]:
        functions = [call["function"] for call in self.message["tool_calls"]]
        return [(one["name"], json.loads(one["arguments"])) for one in functions]

    @property
    def error(self) -> dict[str, Any]:
        found: dict[str, Any] = self.json["error"]
        return found

    @property
    def events(self) -> list[Any]:
        assert self.status == 200, self.content[:2000]
        *payloads, last = [one[6:] for one in self.content.split(b"\n\n") if one[:6] == b"data: "]
        assert last == b"[DONE]"
        return [json.loads(one) for one in payloads]


class Bench:
    def __init__(self, neuron: Neuron, portal: BlockingPortal) -> None:
        self.neuron = neuron
        self.portal = portal
        self._at = ("127.0.0.1", int(neuron.api_url.rpartition(":")[2]))

    def connected(self) -> http.client.HTTPConnection:
        return http.client.HTTPConnection(*self._at, timeout=PATIENCE_S)

    def ask(self, path: str, body: dict[str, Any]) -> Reply:
        connection = self.connected()
        try:
            headers = {"content-type": "application/json"}
            connection.request("POST", path, json.dumps(body), headers)
            answer = connection.getresponse()
            return Reply(answer.status, answer.read())
        finally:
            connection.close()

    def chat(self, model: str, content: Any, **more: Any) -> Reply:
        messages = [{"role": "user", "content": content}]
        usual = {"model": model, "messages": messages, "max_tokens": 64, "temperature": 0}
        return self.ask(CHAT, {**usual, **more})

    def engine(self, model: str) -> Engine | None:
        replica = self.portal.call(self.neuron.roster.replica, ModelId(model))
        return replica.engine

    def unload(self, model: str) -> None:
        self.portal.call(self.neuron.roster.unload, ModelId(model), 5.0)


@contextmanager
def bench(models_dir: Path, **more: Any) -> Iterator[Bench]:
    """`more` are further settings of the neuron."""
    # Not below pytest's own folder: a socket's path may have 107 bytes.
    with (
        tempfile.TemporaryDirectory(prefix="hx-") as folder,
        anyio.from_thread.start_blocking_portal(backend_options={"use_uvloop": True}) as portal,
    ):
        settings = NeuronSettings(
            home=Path(folder),
            models_dir=models_dir,
            api_socket=Address("127.0.0.1", 0),
            control_socket=Address("memory", 0),
            lan=False,
            shutdown_grace_s=1.0,
            **more,
        )
        opened = running(settings, open_transports={"memory": MemoryNetwork().open_transport})
        with portal.wrap_async_context_manager(opened) as neuron:
            yield Bench(neuron, portal)
