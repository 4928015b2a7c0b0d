"""Any server that speaks OpenAI's API: one that runs somewhere, or one that a command starts.

What such a server can do is known neither to its files nor to helexa: it says so itself
(`openai_compatible.listing`), or its operator does (`offers`). Both arrive here as
`files.told`. Everything else - paths, names, the key, what a refusal means - is told
by the URL and the settings of that server.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, Final

import helexa
from helexa.protocol.errors import HelexaError
from helexa.protocol.openai import body as bodies
from helexa.protocol.work import Usage
from helexa.runtime import footprint
from helexa.runtime.contract import (
    Capabilities,
    ChildRequest,
    DeviceWish,
    Endpoint,
    Exit,
    Footprint,
    Grant,
    LaunchPlan,
    ModelFiles,
    ReplicaSpec,
    RuntimeAdapter,
)
from helexa.runtime.openai import abilities, limits, requests
from helexa.runtime.openai_compatible import address, answers, command, counts, refusal
from helexa.util.dialling import Tcp

READY_WITHIN_S: Final = 5.0
"""Of a server that runs already: one that does not answer by then is not there."""
_START_WITHIN_S: Final = 300.0
_STOP_GRACE_S: Final = 10.0
_LIVE_EVERY_S: Final = 30.0
"""Of a server elsewhere, which may count how often it is asked."""
_PROCESS_BYTES: Final = 1 << 30
"""Of a server with its libraries, before any weights: a Python with torch, mostly."""
_DEVICES_MOST: Final = 16
_NOTHING: Final = Footprint(weights=0, kv_cache=0, overhead=0)
_LIMIT_MAX: Final = (1 << 31) - 1
"""Of some servers a larger number becomes a small one."""
_HOME: Final = "/v1"
"""Before the paths of a server that a command starts."""


class OpenAiCompatible:
    name = "openai_compatible"

    def serves(self, files: ModelFiles) -> Capabilities | None:
        return files.told

    def footprint(self, spec: ReplicaSpec) -> Footprint:
        """Nothing for a server elsewhere, nor for a model whose files are not known here."""
        if not spec.installation.command or spec.files.format == "server":
            return _NOTHING
        need = footprint.safetensors(spec, process_bytes=_PROCESS_BYTES)
        return replace(need, on_devices=need.use - _PROCESS_BYTES)

    def devices(self, spec: ReplicaSpec) -> DeviceWish | None:
        """What a command computes on is not known: `devices = []` is for one that needs none."""
        if not spec.installation.command:
            return None
        return DeviceWish(most=_DEVICES_MOST, vendors=("nvidia", "amd"))

    def plan(self, spec: ReplicaSpec, grant: Grant) -> LaunchPlan:
        if spec.installation.command:
            return _started(spec, grant)
        where = spec.installation
        place = address.parse(where.url)
        return LaunchPlan(
            argv=(),
            reach=place.reach,
            headers=headers(where.key),
            ready_path=where.ready_path or f"{place.base}/models",
            ready_within_s=where.ready_within_s or READY_WITHIN_S,
            live_every_s=_LIVE_EVERY_S,
        )

    def chat(self, body: bytes, spec: ReplicaSpec) -> ChildRequest:
        offered = self._does(spec)
        raw = requests.chat(body, spec, offered, runtime=self.name)
        return self._streamed(Endpoint.CHAT, raw, spec, offered)

    def text(self, body: bytes, spec: ReplicaSpec) -> ChildRequest:
        offered = self._does(spec)
        raw = requests.text(body, spec, offered, runtime=self.name)
        return self._streamed(Endpoint.COMPLETIONS, raw, spec, offered)

    def embedding(self, body: bytes, spec: ReplicaSpec) -> ChildRequest:
        offered = self._does(spec)
        raw = requests.embedding(body, spec, offered, runtime=self.name)
        return self._whole(Endpoint.EMBEDDINGS, raw, spec, offered)

    def rerank(self, body: bytes, spec: ReplicaSpec) -> ChildRequest:
        offered = self._does(spec)
        raw = requests.rerank(body, spec, offered, runtime=self.name)
        return self._whole(Endpoint.RERANK, raw, spec, offered)

    def refusal(self, status: int, body: bytes, spec: ReplicaSpec) -> HelexaError:
        return refusal.meaning(status, body, spec, runtime=self.name)

    def usage(self, event: bytes) -> Usage | None:
        return counts.read(event)

    def explain_exit(self, status: int, log_tail: str) -> Exit:
        return refusal.exit_of(status, log_tail)

    def _does(self, spec: ReplicaSpec) -> Capabilities:
        offered = self.serves(spec.files)
        assert offered is not None
        return offered

    def _streamed(
        self, endpoint: Endpoint, raw: bodies.Fields, spec: ReplicaSpec, offered: Capabilities
    ) -> ChildRequest:
        options = bodies.value(raw, "stream_options", dict[str, Any]) or {}
        # Newer models of some take this name alone, and older servers the other one.
        name = "max_tokens"
        if bodies.value(raw, "max_completion_tokens", int) is not None:
            name = "max_completion_tokens"
        limit = limits.taken_out(raw)
        abilities.without_idle(raw)
        changes: dict[str, Any] = {
            "stream": True,
            "stream_options": {**options, "include_usage": True},
        }
        # No limit of ours: servers count it against the context together with the prompt,
        # and some of them refuse a request that is not sure to fit.
        if limit is not None:
            changes[name] = min(limit, _LIMIT_MAX)
        return ChildRequest(
            path=_path(endpoint, spec),
            body=bodies.with_changes(raw, {**changes, "model": _called(spec)}),
            streamed=True,
            rewrite=answers.rewrite_for(spec, offered),
        )

    def _whole(
        self, endpoint: Endpoint, raw: bodies.Fields, spec: ReplicaSpec, offered: Capabilities
    ) -> ChildRequest:
        return ChildRequest(
            path=_path(endpoint, spec),
            body=bodies.with_changes(raw, {"model": _called(spec)}),
            streamed=False,
            rewrite=answers.rewrite_for(spec, offered),
        )


def headers(key: str) -> Sequence[tuple[bytes, bytes]]:
    own = (b"user-agent", f"helexa/{helexa.__version__}".encode())
    return (own, (b"authorization", b"Bearer " + key.encode())) if key else (own,)


def _called(spec: ReplicaSpec) -> str:
    return spec.files.called or spec.files.model


def _path(endpoint: Endpoint, spec: ReplicaSpec) -> str:
    if spec.installation.url:
        return address.parse(spec.installation.url).path(endpoint)
    return endpoint.value


def _started(spec: ReplicaSpec, grant: Grant) -> LaunchPlan:
    where = spec.installation
    given = command.values(spec, grant)
    environment = {name: command.filled(text, given) for name, text in where.environment.items()}
    words = command.named((*where.command, *where.environment.values()))
    return LaunchPlan(
        argv=tuple(command.filled(text, given) for text in where.command),
        env={**_devices(grant), **environment},
        reach=Tcp("127.0.0.1", grant.port) if "port" in words else None,
        headers=headers(grant.secret if "secret" in words else where.key),
        ready_path=where.ready_path or f"{_HOME}/models",
        ready_within_s=where.ready_within_s or _START_WITHIN_S,
        stop_grace_s=_STOP_GRACE_S,
    )


def _devices(grant: Grant) -> Mapping[str, str]:
    return {"CUDA_VISIBLE_DEVICES": ",".join(map(str, grant.devices))} if grant.devices else {}


adapter: RuntimeAdapter = OpenAiCompatible()
