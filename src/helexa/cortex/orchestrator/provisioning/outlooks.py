"""What those who wait are told: how far their model is, or why it will not come."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from helexa.cortex.orchestrator.constraints import why_not_there
from helexa.cortex.orchestrator.fleet import NeuronView, Presence
from helexa.cortex.orchestrator.provisioning.capacity import Replica, Site
from helexa.cortex.orchestrator.provisioning.given import Given
from helexa.cortex.orchestrator.provisioning.ground import Ground
from helexa.cortex.orchestrator.provisioning.placement import (
    is_loadable,
    loadable,
    pullable,
)
from helexa.cortex.orchestrator.provisioning.plan import Kind, Outlook, Setback
from helexa.protocol.ids import ModelId
from helexa.protocol.work import ModelState, Phase, Progress
from helexa.util.units import format_bytes, format_seconds

NAMES_MAX: Final = 3
"""Neurons that a sentence names."""
BACK_WITHIN_S: Final = 10.0
"""A neuron that went may be restarting: its models are not given up sooner."""
FAILURES_MAX: Final = 3
"""Of every neuron that could: what failed so often is not waited for until the next try."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Blocked:
    """It has no room yet. `left_s`: until others may be made to leave for it."""

    left_s: float
    site: Site | None = None
    victims: tuple[Replica, ...] = ()


def of(
    given: Given, ground: Ground, blocked: Mapping[ModelId, Blocked]
) -> tuple[dict[ModelId, Outlook], dict[ModelId, str]]:
    """Outlooks and hopeless ones, of all models that requests wait for and nobody serves."""
    told: dict[ModelId, Outlook] = {}
    hopeless: dict[ModelId, str] = {}
    for model, want in given.wants.items():
        if not want.waiting or ground.serving(model):
            continue
        outlook = _on_its_way(given, ground, model)
        found = blocked.get(model)
        if outlook is not None:
            told[model] = outlook
        elif (found is None or found.site is None) and (reason := _why_never(given, ground, model)):
            hopeless[model] = reason
        else:
            told[model] = _waits(given, ground, model, found)
    return told, hopeless


# --- how far it is


def _on_its_way(given: Given, ground: Ground, model: ModelId) -> Outlook | None:
    coming = [_loading(given, ground, one) for one in ground.coming(model)]
    if coming:
        return min(coming, key=_eta)
    arriving = [_downloading(given, ground, site, model) for site in ground.arriving.get(model, ())]
    return min(arriving, key=_eta) if arriving else None


def _loading(given: Given, ground: Ground, one: Replica) -> Outlook:
    site = ground.sites[one.node]
    told = _told(given, site.neuron, one.model, Phase.LOADING)
    if told is None:
        load_s = ground.load_s(site, one.model)
        passed_s = given.now_s - one.since_s
        eta_s = max(0.0, load_s - passed_s) if load_s else None
        told = Progress(phase=Phase.LOADING, eta_s=eta_s)
    return Outlook(progress=told, reason=f"on {site.called}")


def _downloading(given: Given, ground: Ground, site: Site, model: ModelId) -> Outlook:
    told = _told(given, site.neuron, model, Phase.DOWNLOADING)
    if told is None:
        told = Progress(phase=Phase.DOWNLOADING, bytes_total=ground.needs.files_bytes(model))
    elif told.eta_s is not None:
        eta_s = told.eta_s + ground.load_s(site, model)
        told = Progress(
            phase=told.phase, bytes_done=told.bytes_done, bytes_total=told.bytes_total, eta_s=eta_s
        )
    return Outlook(progress=told, reason=f"to {site.called}")


def _told(given: Given, neuron: NeuronView, model: ModelId, phase: Phase) -> Progress | None:
    """What the neuron says of it. What it foresaw has come nearer since it said so."""
    for one in neuron.load.progress if neuron.load is not None else ():
        if one.model == model and one.progress.phase is phase:
            told = one.progress
            if told.eta_s is None:
                return told
            return Progress(
                phase=phase,
                bytes_done=told.bytes_done,
                bytes_total=told.bytes_total,
                eta_s=max(0.0, told.eta_s - max(0.0, given.now_s - neuron.heard_s)),
            )
    return None


def _waits(given: Given, ground: Ground, model: ModelId, blocked: Blocked | None) -> Outlook:
    blocked = blocked or Blocked(left_s=0.0)
    site, left_s = blocked.site, blocked.left_s
    load_s = ground.load_s(site, model)
    busy = [one for one in blocked.victims if one.busy]
    if busy and site is not None:
        names = ", ".join(one.model for one in busy)
        return _waiting(f"{site.called} ends its requests for {names} first")
    if site is not None:
        return _waiting(f"{site.called} makes room", left_s + load_s if load_s else None)
    if not given.settled:
        return _waiting("neurons may still be coming back")
    soonest = _soonest(given, ground, model)
    if soonest is not None:
        left_s = soonest.until_s - given.now_s
        reason = f"{soonest.reason}; tried again in {format_seconds(left_s)}"
        return _waiting(reason, left_s + load_s if load_s else None)
    if left_s:
        return _waiting("others are in use", left_s + load_s if load_s else None)
    return _waiting("for room on a neuron")


def _waiting(reason: str, eta_s: float | None = None) -> Outlook:
    return Outlook(progress=Progress(phase=Phase.WAITING, eta_s=eta_s), reason=reason)


def _soonest(given: Given, ground: Ground, model: ModelId) -> Setback | None:
    """The next that is tried again, where nothing else can be tried now."""
    if not given.setbacks or any(True for _ in loadable(given, ground, model)):
        return None
    tried = [one for site in ground.sites.values() for one in _setbacks(given, site, model)]
    return min(tried, key=lambda one: one.until_s, default=None)


def _eta(outlook: Outlook) -> float:
    eta_s = outlook.progress.eta_s
    return float("inf") if eta_s is None else eta_s


# --- why it will not come


def has_home(given: Given, ground: Ground, model: ModelId) -> bool:
    """Whether a neuron has its files and may run it sooner or later."""
    return any(
        (is_loadable(capability) or model in site.replicas)
        and _may(ground, site, model)
        and _is_worth_waiting(given, given.setback(site.node, model, Kind.LOAD), model)
        for site, capability in ground.holders(model)
    )


def _may(ground: Ground, site: Site, model: ModelId) -> bool:
    return (
        site.is_open
        and ground.allowed(site, model)
        and ground.need_bytes(site, model) <= ground.could_have_bytes(site, model)
    )


def _is_worth_waiting(given: Given, setback: Setback | None, model: ModelId) -> bool:
    if setback is None:
        return True
    left_s = given.max_wait_s(model) - given.want(model).oldest_s
    return setback.failures < FAILURES_MAX and setback.until_s - given.now_s < left_s


def _why_never(given: Given, ground: Ground, model: ModelId) -> str:
    """Empty where something may still come of it."""
    if not given.settled or has_home(given, ground, model):
        return ""
    entry, view = ground.entry(model), given.view
    allowed = [site for site in ground.sites.values() if ground.allowed(site, model)]
    if any(site.neuron.load is None and site.takes_requests for site in allowed):
        return ""
    absent = [
        view.neurons[node]
        for node in view.holders.get(model, ())
        if view.neurons[node].presence is not Presence.PRESENT
        and not why_not_there(entry, view.neurons[node].descriptor)
    ]
    if any(given.now_s - one.since_s < BACK_WITHIN_S for one in absent):
        return ""
    if any(
        ground.need_bytes(site, model) <= ground.could_have_bytes(site, model)
        and _has_disk(ground, site, model)
        for site in pullable(given, ground, model)
    ):
        return ""
    return _reason(given, ground, model, allowed, absent)


def _has_disk(ground: Ground, site: Site, model: ModelId) -> bool:
    load = site.neuron.load
    return load is None or ground.needs.files_bytes(model) <= load.disk_free_bytes


def _reason(
    given: Given, ground: Ground, model: ModelId, allowed: list[Site], absent: list[NeuronView]
) -> str:
    entry = ground.entry(model)
    if not entry.source:
        having = [site for site in allowed if model in site.neuron.capabilities]
        if not having and absent:
            return f"only {_gone(given, absent[0])} has it"
        if not having and not any(True for _ in ground.holders(model)):
            return "no neuron has it, and the catalogue names no source"
        allowed = having
    if not ground.sites:
        return "no neuron is here"
    if not allowed:
        some = next(iter(ground.sites.values()))
        rule = why_not_there(entry, some.neuron.descriptor)
        return f"no neuron that has it may run it: {some.called} is {rule}"
    opened = [site for site in allowed if site.is_open]
    if not opened:
        marks = {site.neuron.mark.value if site.neuron.mark else "draining" for site in allowed}
        return f"all neurons that may run it are {' or '.join(sorted(marks))} ({_names(allowed)})"
    return _by_room(ground, model, opened) or _by_failure(given, ground, model, opened)


def _by_room(ground: Ground, model: ModelId, sites: list[Site]) -> str:
    sites = [
        site
        for site in sites
        if (found := site.neuron.capabilities.get(model)) is None or is_loadable(found)
    ]
    if not sites:
        return ""
    need = max(ground.need_bytes(site, model) for site in sites)
    largest = max(sites, key=_all_bytes)
    if need > _all_bytes(largest):
        return (
            f"it needs {format_bytes(need)}; the largest neuron that may run it, "
            f"{largest.called}, has {format_bytes(_all_bytes(largest))}"
        )
    held = [site for site in sites if not _may(ground, site, model)]
    if len(held) < len(sites):
        return ""
    stays = {
        one.model
        for site in held
        for one in site.replicas.values()
        if not ground.may_ever_leave(one, model)
    }
    return (
        f"no room can be made for it: {', '.join(sorted(stays)[:NAMES_MAX])} may not leave for it"
    )


def _by_failure(given: Given, ground: Ground, model: ModelId, sites: list[Site]) -> str:
    said = []
    for site in sites:
        tried = _setbacks(given, site, model)
        capability = site.neuron.capabilities.get(model)
        if tried:
            said.append(f"{site.called}: {tried[0].reason}")
        elif capability is not None and capability.state is ModelState.FAILED:
            said.append(f"{site.called}: {capability.reason}")
        elif capability is None and not _has_disk(ground, site, model):
            load = site.neuron.load
            free = format_bytes(load.disk_free_bytes if load is not None else 0)
            size = format_bytes(ground.needs.files_bytes(model))
            said.append(f"{site.called}: its files are {size}, and {free} of disk are left")
    more = f"; and {len(said) - NAMES_MAX} more" if len(said) > NAMES_MAX else ""
    return "no neuron could serve it: " + "; ".join(said[:NAMES_MAX]) + more


def _all_bytes(site: Site) -> int:
    return site.free_bytes + sum(one.memory_bytes for one in site.replicas.values())


def _gone(given: Given, neuron: NeuronView) -> str:
    called = neuron.descriptor.name or neuron.descriptor.node[:10]
    age_s = max(0.0, given.now_s - neuron.since_s)
    said = f"{called}, which is {neuron.presence.value} for {format_seconds(age_s)},"
    return said if not neuron.reason else f"{said[:-1]} ({neuron.reason}),"


def _names(sites: list[Site]) -> str:
    more = len(sites) - NAMES_MAX
    names = ", ".join(site.called for site in sites[:NAMES_MAX])
    return f"{names} and {more} more" if more > 0 else names


def _setbacks(given: Given, site: Site, model: ModelId) -> list[Setback]:
    found = []
    for kind in (Kind.LOAD, Kind.PULL):
        one = given.setback(site.node, model, kind)
        if one is not None:
            found.append(one)
    return found
