"""What `helexa cortex` and `helexa neuron` share: run until told to stop, say when it serves."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Callable, Mapping
from contextlib import AbstractAsyncContextManager, suppress
from typing import Any, Final, TypeAlias

import helexa
from helexa.cli.output import event, facts
from helexa.cli.verb import Failed
from helexa.config import Config
from helexa.util import lifetime, logs
from helexa.util.sockets import Address, AddressTaken

Emit: TypeAlias = Callable[[Mapping[str, Any]], None]
OpenNode: TypeAlias = Callable[[Emit], AbstractAsyncContextManager[Any]]

READY_FIELDS: Final = (
    "node_id",
    "ticket",
    "gateway_url",
    "portal_urls",
    "orchestrator_url",
    "mesh_addr",
    "api_url",
    "control_addr",
)


def serve(
    role: str,
    config: Config,
    open_node: OpenNode,
    *,
    as_json: bool,
    on_hangup: Callable[[Any], None] | None = None,
) -> int:
    """Run the node until a signal. The first ends it gracefully with status 0.

    `on_hangup` is given the node at SIGHUP.
    """
    logs.set_up(config.node.log_level, config.node.log_format)
    try:
        signum = lifetime.run(lambda: _serve(role, open_node, on_hangup, as_json=as_json))
    except (AddressTaken, BaseExceptionGroup) as error:
        taken = _only(error, AddressTaken)
        if taken is None:
            raise
        raise Failed(explain_taken(taken, config, role)) from error
    if as_json:
        _emit({"event": "stopped", "role": role, "signal": signum.name})
    return 0


async def _serve(
    role: str, open_node: OpenNode, on_hangup: Callable[[Any], None] | None, *, as_json: bool
) -> signal.Signals:
    def on_ready(node: Any) -> None:
        if as_json:
            _emit(ready_event(role, node))
        else:
            print(_announcement(role, node), flush=True)

    node = open_node(_emit if as_json else _ignore)
    return await lifetime.until_told(node, on_ready, on_hangup)


def ready_event(role: str, node: Any) -> dict[str, Any]:
    """What a script may rely on once a node serves. Fields of the other role are null."""
    fields = {name: getattr(node, name, None) for name in READY_FIELDS}
    token = getattr(node, "admin_token_path", None)
    return {
        "event": "ready",
        "role": role,
        **fields,
        "portal_urls": list(fields["portal_urls"] or ()),
        "admin_token_path": str(token) if token else None,
        "pid": os.getpid(),
        "version": helexa.__version__,
    }


def _announcement(role: str, node: Any) -> str:
    ready = ready_event(role, node)
    return f"{role} is ready; Ctrl-C ends it\n" + facts(
        [
            ("gateway", ready["gateway_url"]),
            ("portal", ready["portal_urls"]),
            ("orchestrator", ready["orchestrator_url"]),
            ("admin token", ready["admin_token_path"]),
            ("api", ready["api_url"]),
            ("mesh", ready["mesh_addr"] or ready["control_addr"]),
            ("node id", ready["node_id"]),
            ("ticket", ready["ticket"]),
        ]
    )


def explain_taken(error: AddressTaken, config: Config, role: str) -> str:
    """A taken socket, said with the setting and the place that asked for it."""
    for key, found in config.values.items():
        if found.setting.section != role:
            continue
        for address in found.value if found.setting.is_list else (found.value,):
            if isinstance(address, Address) and str(address) in str(error):
                holder = _holder_of(address)
                return (
                    f"{found.origin}: {key}: {error}{holder}; give another with "
                    f"{found.setting.flag or key} (port 0 takes a free one)"
                )
    return str(error)


def _holder_of(address: Address) -> str:
    import psutil  # Needed only to explain a refusal.

    with suppress(psutil.Error, OSError):
        for one in psutil.net_connections("inet"):
            waits = one.status in (psutil.CONN_LISTEN, psutil.CONN_NONE)
            if waits and one.pid and one.laddr and one.laddr.port == address.port:
                return f", held by {psutil.Process(one.pid).name()} (pid {one.pid})"
    return ""


def _only(error: BaseException, kind: type[AddressTaken]) -> AddressTaken | None:
    while isinstance(error, BaseExceptionGroup) and len(error.exceptions) == 1:
        error = error.exceptions[0]
    return error if isinstance(error, kind) else None


def _emit(fields: Mapping[str, Any]) -> None:
    try:
        event(fields)
    except OSError:
        # Whoever read the events left; the node goes on serving, without an audience.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _ignore(fields: Mapping[str, Any]) -> None:
    """People read the log instead."""
