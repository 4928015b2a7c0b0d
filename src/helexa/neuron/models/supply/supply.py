"""From settings to a neuron that pulls: the supply's own parts put together."""

from __future__ import annotations

import stat
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from typing import Final

from helexa.neuron.models.store import ModelStore
from helexa.neuron.models.supply.piece import Exchange
from helexa.neuron.models.supply.pulls import Pulls
from helexa.neuron.models.supply.records import Records
from helexa.neuron.models.supply.sequential import sequential
from helexa.neuron.models.supply.source import Means
from helexa.neuron.models.supply.web import Token, Web, origin_of
from helexa.neuron.settings import NeuronSettings
from helexa.protocol.ids import ModelId
from helexa.util.home import HomeUnusable

_SPARE_CONNECTIONS: Final = 8
"""For questions about files, beside the connections that bring them."""
_TOKEN_BYTES_MAX: Final = 4_096


def pulls_of(settings: NeuronSettings, store: ModelStore) -> Pulls:
    return Pulls(
        store,
        Records(settings.models_dir),
        limit=settings.disk_limit,
        reserve=settings.disk_reserve,
        parallel=settings.pulls_max,
    )


@asynccontextmanager
async def pulling(
    settings: NeuronSettings,
    pulls: Pulls,
    in_use: Callable[[ModelId], bool],
    exchange: Exchange | None = None,
) -> AsyncIterator[None]:
    """Pulls go on while the block lasts. Raises HomeUnusable where the hub's token cannot be
    read.
    """
    token = hub_token(settings)
    connections = settings.pulls_max * settings.pull_connections + _SPARE_CONNECTIONS
    async with Web.running(stall_s=settings.pull_stall_s, connections_max=connections) as web:
        means = Means(
            web=web,
            models_dir=settings.models_dir,
            hub=settings.hub,
            hub_token=token,
            file_folders=settings.file_folders,
            find_size=exchange.find_size if exchange else None,
        )
        picker = (
            exchange.picker if exchange else partial(sequential, lanes=settings.pull_connections)
        )
        async with pulls.running(means, in_use, picker, exchange):
            yield


def hub_token(settings: NeuronSettings) -> Token | None:
    path = settings.hub_token_file
    if path is None:
        return None
    secret = _secret(path)
    return Token(origin_of(settings.hub), secret)


def _secret(path: Path) -> str:
    try:
        mode = stat.S_IMODE(path.stat().st_mode)
        with path.open(encoding="ascii") as file:
            secret = file.read(_TOKEN_BYTES_MAX).strip()
    except (OSError, UnicodeDecodeError) as error:
        raise HomeUnusable(f"cannot read the hub's token in {path}: {error}") from error
    if mode & 0o077:
        raise HomeUnusable(f"{path} is readable by others; run: chmod 600 {path}")
    if not secret or not secret.isprintable() or " " in secret:
        raise HomeUnusable(f"{path} holds no token: one word is expected")
    return secret
