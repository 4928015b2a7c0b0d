"""Requests at nodes of which nothing is heard any more, while their connections still stand.

A machine without power, or behind a cut, closes nothing. That it is silent shows by its
health reports, or by the mesh' word, long before a stream would time out. A request there
is taken away once nothing has come on it either, and somebody else is ready; where nobody
is, it stays: the node may come back, and others may come.
"""

from __future__ import annotations

from collections.abc import Collection
from collections.abc import Set as AbstractSet
from typing import Any, Final

import msgspec

from helexa.cortex.gateway.seams import Fleet
from helexa.cortex.gateway.trial import Trial
from helexa.protocol.errors import HelexaError
from helexa.protocol.ids import NodeId
from helexa.protocol.routing import RouteHints

QUIET_S: Final = 1.0
"""A stream on which something came since is alive, whatever becomes of its node's reports."""


class Silence:
    """Nothing here runs while every node is heard."""

    def __init__(self, fleet: Fleet, under_way: Collection[Trial]) -> None:
        self._fleet = fleet
        self._under_way = under_way

    def look(self, silent: AbstractSet[NodeId]) -> None:
        """Take away what can go on elsewhere."""
        known: dict[Any, bool] = {}
        leaving = []
        for trial in self._under_way:
            node = trial.target.via or trial.target.node
            if node not in silent or trial.quiet_s() < QUIET_S:
                continue
            hints = _hints(trial, node)
            if hints is None:
                continue
            ticket = trial.job.ticket
            # Many requests ask for the same, and nobody's way differs by its prompt here.
            kind = (ticket.workload, ticket.model, hints.digest, hints.wish, hints.exclude)
            key = (*kind, hints.path, hints.hops_left)
            if key not in known:
                known[key] = self._is_ready(trial, hints)
            if known[key]:
                leaving.append(trial)
        for trial in leaving:
            trial.lose()

    def _is_ready(self, trial: Trial, hints: RouteHints) -> bool:
        ticket = trial.job.ticket
        try:
            targets = self._fleet.route(ticket.workload, ticket.model, hints).targets
        except HelexaError:
            return False
        return bool(targets) and targets[0].ready


def _hints(trial: Trial, node: NodeId) -> RouteHints | None:
    """By which somebody else is looked for; None where nobody else could go on."""
    job = trial.job
    digest = job.hints.digest
    if trial.first or job.goes_on:
        digest = trial.attempt.digest
        if not digest:
            return None
        if trial.first and (trial.record is None or not trial.record.is_whole):
            return None
    return msgspec.structs.replace(
        job.hints, digest=digest, exclude=(*job.hints.exclude, node), prefixes=()
    )
