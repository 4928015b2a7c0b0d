"""A cortex and a neuron on one machine: two real processes, joined over the real mesh link.

Nothing here is a shortcut: the neuron dials the cortex's ticket, the model is loaded
through the control API, the key is made like any other. So what works here works
between machines.
"""

from __future__ import annotations

import http
import json
import os
import secrets
import shlex
import sys
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlsplit

import anyio
from anyio import to_thread

from helexa.cli.client import Client, Refused, Unreachable, in_path
from helexa.cli.log_file import log_file
from helexa.cli.member import Ended, Member
from helexa.cli.output import note
from helexa.cli.verb import Failed
from helexa.config import Config, Layer
from helexa.util.sockets import Address

HELEXA: Final = (sys.executable, "-m", "helexa")
LOOK_EVERY_S: Final = 0.05
KEY_NAME: Final = "up"
END_MARGIN_S: Final = 5.0
"""What a node may take beyond its own grace before it is killed."""
QUESTION: Final = "What is helexa?"

Say = Callable[[Mapping[str, Any]], None]


@dataclass(frozen=True, slots=True, kw_only=True)
class Ready:
    """All that somebody needs to use what runs."""

    base_url: str
    portal_url: str
    api_key: str
    admin_token: str
    models: Sequence[str]
    curl: str
    cortex: Mapping[str, Any]
    neuron: Mapping[str, Any]


class Pair:
    """`passed` are the settings given on the command line that both children get as well."""

    def __init__(self, config: Config, passed: Sequence[str], say: Say) -> None:
        self._config = config
        self._passed = passed
        self._say = say
        self._cortex: Member | None = None
        self._neuron: Member | None = None
        self._ticket = ""
        self._mesh_addr = ""

    @asynccontextmanager
    async def running(self) -> AsyncIterator[Ready]:
        """Yields once a client would be served; both nodes are gone after the block."""
        logs = self._config.node.home / "logs"
        grace_s = END_MARGIN_S + max(
            self._config.cortex.shutdown_grace_s, self._config.neuron.shutdown_grace_s
        )
        with log_file(logs / "cortex.log") as cortex_log, log_file(logs / "neuron.log") as log:
            cortex = self._cortex = Member(
                "cortex",
                self._cortex_argv,
                cortex_log,
                grace_s=grace_s,
                on_ready=self._cortex_again,
                on_ended=self._ended,
            )
            neuron = self._neuron = Member(
                "neuron",
                self._neuron_argv,
                log,
                grace_s=grace_s,
                on_ready=self._neuron_again,
                on_ended=self._ended,
            )
            with anyio.CancelScope() as scope:
                scope.deadline = anyio.current_time() + self._config.up.ready_timeout_s
                async with cortex.running():
                    self._ticket = cortex.ready["ticket"]
                    self._mesh_addr = cortex.ready["mesh_addr"]
                    async with neuron.running():
                        ready = await self._joined()
                        scope.deadline = float("inf")
                        yield ready
            if scope.cancelled_caught:
                raise Failed(
                    f"not ready within {self._config.up.ready_timeout_s:g} s; "
                    f"{logs} says how far it came"
                )

    def hang_up(self) -> None:
        """SIGHUP, for the one who reads its file again at that."""
        if self._cortex is not None:
            self._cortex.hang_up()

    # --- command lines

    def _cortex_argv(self) -> list[str]:
        up, ready = self._config.up, self._cortex.ready if self._cortex else {}
        portal = (ready.get("portal_urls") or [""])[0]
        argv = [*HELEXA, "cortex", *self._common()]
        # A cortex that comes back is where it was: its clients know the old ports only.
        argv += ["--gateway-socket", _again(up.gateway_socket, ready.get("gateway_url"))]
        argv += ["--orchestrator-socket", _again(up.orchestrator_socket, ready.get(_CONTROL))]
        argv += ["--portal-socket", _again(up.portal_socket, portal)]
        if self._config.origin("cortex.mesh_socket").layer is Layer.DEFAULT:
            argv += ["--mesh-socket", "127.0.0.1:0"]
        return argv

    def _neuron_argv(self) -> list[str]:
        up, ready = self._config.up, self._neuron.ready if self._neuron else {}
        argv = [*HELEXA, "neuron", *self._common(), "--cortex", self._ticket]
        argv += ["--api-socket", _again(up.api_socket, ready.get("api_url"))]
        if self._config.origin("neuron.control_socket").layer is Layer.DEFAULT:
            argv += ["--control-socket", "127.0.0.1:0"]
        return argv

    def _common(self) -> list[str]:
        argv = ["--json", "--home", str(self._config.node.home)]
        if self._config.file is not None:
            argv += ["--config", str(self._config.file.absolute())]
        return [*argv, *self._passed]

    # --- what happens later

    async def _cortex_again(self, ready: dict[str, Any]) -> None:
        self._say({"event": "back", "role": "cortex", "pid": ready.get("pid")})
        self._ticket = ready["ticket"]
        if ready["mesh_addr"] != self._mesh_addr and self._neuron is not None:
            # Its old port was taken meanwhile. The neuron would dial the old one for ever.
            self._mesh_addr = ready["mesh_addr"]
            self._neuron.ask_to_end()

    async def _neuron_again(self, ready: dict[str, Any]) -> None:
        self._say({"event": "back", "role": "neuron", "pid": ready.get("pid")})
        try:
            await self._load(self._control())
        except Failed as error:
            self._say({"event": "not_loaded", "reason": str(error)})

    def _ended(self, ended: Ended) -> None:
        self._say(
            {
                "event": "ended",
                "role": ended.role,
                "status": ended.status,
                "again_in_s": round(ended.again_in_s, 2),
                "last_words": list(ended.last_words),
            }
        )

    # --- from two processes to something useful

    async def _joined(self) -> Ready:
        assert self._cortex is not None
        assert self._neuron is not None
        control = self._control()
        await self._load(control)
        gateway = self._cortex.ready["gateway_url"].rstrip("/").removesuffix("/v1")
        key = await self._key(control, gateway)
        listed = await _asked(self._as_client(gateway, key), "GET", "/v1/models")
        base_url = f"{gateway}/v1"
        return Ready(
            base_url=base_url,
            portal_url=self._cortex.ready["portal_urls"][0],
            api_key=key,
            admin_token=control.token,
            models=[one["id"] for one in listed["data"]],
            curl=curl_line(base_url, key, self._config.up.models),
            cortex=self._cortex.ready,
            neuron=self._neuron.ready,
        )

    def _control(self) -> Client:
        assert self._cortex is not None
        token = (self._config.cortex.home / "admin.token").read_text().strip()
        return Client(self._cortex.ready[_CONTROL].rstrip("/"), token)

    def _as_client(self, gateway: str, key: str) -> Client:
        return Client(gateway, key, self._config.cortex.gateway_tls_cert)

    async def _load(self, control: Client) -> None:
        """Wait until the cortex sees the neuron, then have it load the models. Raises Failed."""
        assert self._neuron is not None
        node = self._neuron.ready["node_id"]
        for model in self._config.up.models:
            state, reason = "", ""
            while state not in ("loaded", DRAINED):
                if state == "failed":
                    raise Failed(f"{model} cannot be loaded: {reason}")
                if await _is_seen(control, node):
                    state, reason = await _load_on(control, node, model)
                if state == DRAINED:
                    # Somebody said so before, and that is kept; waiting would be for ever.
                    undo = f"`helexa nodes undrain {node[:12]}`"
                    note(f"{model} is not loaded: this neuron is drained; {undo} undoes that")
                elif state != "loaded":
                    # What comes next happens in another process; asking is all there is.
                    await anyio.sleep(LOOK_EVERY_S)

    async def _key(self, control: Client, gateway: str) -> str:
        """The key of the last time where it still opens the gateway, else a new one."""
        path = self._config.node.home / "up.key"
        try:
            secret = path.read_text().strip()
            await _asked(self._as_client(gateway, secret), "GET", "/v1/models")
        except (FileNotFoundError, Refused) as error:
            if isinstance(error, Refused) and error.status != http.HTTPStatus.UNAUTHORIZED:
                raise
            made = await _asked(control, "POST", "/api/v1/keys", {"name": KEY_NAME})
            secret = str(made["secret"])
            _keep_secret(path, secret)
        return secret


DRAINED: Final = "drained"
_CONTROL: Final = "orchestrator_url"


def curl_line(base_url: str, key: str, models: Sequence[str]) -> str:
    """One line that works when pasted into a shell."""
    model = models[0] if models else "MODEL"
    body = {"model": model, "messages": [{"role": "user", "content": QUESTION}]}
    return " ".join(
        [
            "curl",
            # The certificate names the host that others ask, and this line asks loopback.
            *(("--insecure",) if base_url.startswith("https:") else ()),
            shlex.quote(f"{base_url}/chat/completions"),
            *("-H", shlex.quote(f"Authorization: Bearer {key}")),
            *("-H", shlex.quote("Content-Type: application/json")),
            *("-d", shlex.quote(json.dumps(body))),
        ]
    )


async def _is_seen(control: Client, node: str) -> bool:
    try:
        listed = await _asked(control, "GET", "/api/v1/neurons")
    except Unreachable:
        return False  # The cortex died and is being started again.
    return any(one["node"] == node and one["presence"] == "present" for one in listed["neurons"])


async def _load_on(control: Client, node: str, model: str) -> tuple[str, str]:
    """(state, reason) after asking; "" when the cortex or the neuron died meanwhile, DRAINED when
    its operator took the neuron out of service.
    """
    path = f"/api/v1/models/{in_path(model)}/load"
    try:
        answer = await _asked(control, "POST", path, {"node": node})
    except Unreachable:
        return "", ""
    except Refused as error:
        if error.code == "draining":
            return DRAINED, ""
        if error.status == http.HTTPStatus.SERVICE_UNAVAILABLE:
            return "", ""
        raise Failed(f"{model} cannot be loaded: {error}") from error
    (result,) = answer["results"]
    return str(result["response"]["state"]), str(result["response"].get("reason", ""))


async def _asked(
    client: Client, method: str, path: str, body: Mapping[str, Any] | None = None
) -> Any:
    # A load takes as long as the model is large; the whole start has a deadline of its own.
    within_s = 1_900.0 if method == "POST" else 10.0
    return await to_thread.run_sync(
        lambda: client.ask(method, path, body, within_s=within_s), abandon_on_cancel=True
    )


def _again(socket: Address, url: str | None) -> str:
    """The socket as asked for, or with the port that it got the last time."""
    port = urlsplit(url or "").port
    return str(socket.with_port(port) if port else socket)


def _keep_secret(path: Path, secret: str) -> None:
    draft = path.with_name(f".{path.name}.{secrets.token_hex(4)}")
    handle = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(handle, "w") as file:
        file.write(secret + "\n")
    draft.replace(path)
