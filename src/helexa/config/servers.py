"""What makes no server of `[neuron.servers.NAME]`, and models that name one that is not there."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator

from helexa.config.lines import KeyPath
from helexa.config.origin import Origin, Problem
from helexa.neuron.settings import NeuronSettings, ServerSettings
from helexa.protocol.ids import is_model_id
from helexa.runtime.openai_compatible import address, command, key

Where = Callable[[KeyPath], Origin]


def problems(settings: NeuronSettings, where: Where, roles: Collection[str]) -> Iterator[Problem]:
    """Reasons for which a neuron with these would not do what they say."""
    if not {"neuron", "up"} & set(roles):
        return
    for name, server in settings.servers.items():
        for setting, message in _wrong_with(server):
            yield _problem(("neuron", "servers", name), setting, message, where)
    for model, one in settings.models.items():
        if one.server and (message := _no_command(one.server, settings)):
            yield _problem(("neuron", "models", model), "server", message, where)


def _problem(table: tuple[str, ...], setting: str, message: str, where: Where) -> Problem:
    path = (*table, setting) if setting else table
    return Problem(where(path), ".".join(path), message)


def _wrong_with(server: ServerSettings) -> Iterator[tuple[str, str]]:
    """By the setting at fault, empty for the table itself."""
    if not server.url and not server.command:
        yield "", "needs a url of a server that runs, or a command that starts one"
    if server.url and server.command:
        yield "command", "stands beside a url; a server is reached by one or started by the other"
    if server.url:
        try:
            address.parse(server.url)
        except address.UrlRefused as error:
            yield "url", str(error)
    if server.command:
        yield from _wrong_with_command(server)
    if server.key_file is not None:
        try:
            key.read(server.key_file)
        except key.KeyRefused as error:
            yield "key_file", str(error)
    for name in server.models:
        if not is_model_id(name):
            yield "models", f"{name[:80]!r} cannot name a model here"


def _wrong_with_command(server: ServerSettings) -> Iterator[tuple[str, str]]:
    values = tuple(server.environment.values())
    if message := command.wrong_with(server.command, values):
        yield "command", message
    if server.models and "weights" in command.named((*server.command, *values)):
        yield (
            "models",
            (
                "are served without files of this neuron, and the command asks for {weights}; "
                'leave them away, and write server = "NAME" to [neuron.models.MODEL]'
            ),
        )


def _no_command(server: str, settings: NeuronSettings) -> str:
    known = settings.servers.get(server)
    if known is None:
        names = ", ".join(settings.servers) or "none"
        return f"no server is named {server!r} in [neuron.servers]; there are: {names}"
    if not known.command:
        return f"the server {server!r} has a url; only a command can run files of this neuron"
    return ""
