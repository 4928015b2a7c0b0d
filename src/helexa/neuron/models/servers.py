"""From `[neuron.servers]` to servers that can be asked: places, keys, what goes with a request."""

from __future__ import annotations

import logging
import stat
from collections.abc import Mapping, Sequence
from pathlib import Path

from helexa.neuron.models.server_look import Server
from helexa.neuron.settings import NeuronSettings
from helexa.runtime.adapters import openai_compatible
from helexa.runtime.openai_compatible import address, key
from helexa.util.home import HomeUnusable
from helexa.util.upstream import Headers

log = logging.getLogger(__name__)


def keys_of(settings: NeuronSettings) -> Mapping[str, str]:
    """What servers are shown, by the servers' names. Raises HomeUnusable."""
    return {
        name: _key(name, server.key_file)
        for name, server in settings.servers.items()
        if server.key_file is not None
    }


def servers_of(
    settings: NeuronSettings, keys: Mapping[str, str], also: Headers = ()
) -> Sequence[Server]:
    """`also` goes with every question. Raises HomeUnusable for what no server can be."""
    found = []
    for name, server in settings.servers.items():
        try:
            place = address.parse(server.url) if server.url else None
        except address.UrlRefused as error:
            raise HomeUnusable(f"the URL of the server {name}: {error}") from error
        headers = (*openai_compatible.headers(keys.get(name, "")), *also)
        found.append(Server(name=name, settings=server, place=place, headers=headers))
    return found


def _key(name: str, path: Path) -> str:
    try:
        mode = stat.S_IMODE(path.stat().st_mode)
        found = key.read(path)
    except (OSError, key.KeyRefused) as error:
        raise HomeUnusable(f"the key of the server {name}: {error}") from error
    if mode & 0o077:
        # Secrets that are mounted into a container mostly are; it is its operator's to judge.
        log.warning("a key is readable by others", extra={"server": name, "file": str(path)})
    return found
