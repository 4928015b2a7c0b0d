"""What those who wait are told: how far their model is, or why it will not come."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from helexa.cortex.orchestrator.constraints import why_not_there
from helexa.cortex.orchestrator.fleet import Presence
from helexa.cortex.orchestrator.provisioning.given import Given
from helexa.cortex.orchestrator.provisioning.ground import Ground, Replica, Site
from helexa.cortex.orchestrator.provisioning.plan import Kind, Memory, Outlook, Setback
from helexa.protocol.ids import ModelId
from helexa.protocol.work import ModelCapability, ModelState, Phase, Progress
from helexa.util.units import format_bytes

REASONS_MAX: Final = 5


@dataclass(frozen=True, slots=True)
class Blocked:
    """It could be loaded if others made room. `left_s`: until they are made to."""

    left_s: float


def of(
    given: Given, ground: Ground, memory: Memory, blocked: Mapping[ModelId, Blocked]
) -> tuple[dict[ModelId, Outlook], dict[ModelId, str]]:
    """Outlooks and hopeless ones, of all models that requests wait for."""
    told: dict[ModelId, Outlook] = {}
    hopeless: dict[ModelId, str] = {}
    for model, want in given.wants.items():
        if not want.waiting:
            continue
        outlook = _outlook(given, ground, memory, model, blocked.get(model))
        if outlook is not None:
            told[model] = outlook
        else:
            hopeless[model] = _why(given, ground, model)
    return told, hopeless


def _outlook(
    given: Given, ground: Ground, memory: Memory, model: ModelId, blocked: Blocked | None
) -> Outlook | None:
    """None where nothing is on its way and nothing can be."""
    coming = [_loading(given, ground, memory, one) for one in ground.coming(model)]
    if coming:
        return min(coming, key=_eta)
    if ground.serving(model):
        # Served, and giving way: its turn comes again.
        left_s = blocked.left_s if blocked is not None else 0.0
        return _waiting(ground, model, left_s)
    arriving = [
        _downloading(site, model, capability)
        for site, capability in ground.holders(model)
        if capability.state is ModelState.DOWNLOADING and ground.allowed(site, model)
    ]
    if arriving:
        return min(arriving, key=_eta)
    if any(model in site.promised or model in site.replicas for site in ground.sites.values()):
        return _waiting(ground, model, 0.0)
    if blocked is not None:
        return _waiting(ground, model, blocked.left_s)
    if not given.settled or _may_recover(given, ground, model):
        return Outlook(progress=Progress(phase=Phase.WAITING), reason="for a neuron")
    return None


def _may_recover(given: Given, ground: Ground, model: ModelId) -> bool:
    """Whether a neuron that is here for certain has only no room for one more command now."""
    return any(
        site.is_open
        and ground.allowed(site, model)
        and capability.state is ModelState.UNLOADED
        and ground.need_bytes(site, model) <= site.room_bytes
        and not _setback(given, site, model)
        for site, capability in ground.holders(model)
    )


def _loading(given: Given, ground: Ground, memory: Memory, one: Replica) -> Outlook:
    site = ground.sites[one.node]
    load = site.neuron.load
    for told in load.progress if load else ():
        if told.model == one.model and told.progress.phase is Phase.LOADING:
            age_s = max(0.0, given.now_s - site.neuron.heard_s)
            eta_s = told.progress.eta_s
            # A report is as old as it is; what it foresaw has come nearer since.
            left_s = None if eta_s is None else max(0.0, eta_s - age_s)
            return Outlook(
                progress=Progress(
                    phase=Phase.LOADING,
                    bytes_done=told.progress.bytes_done,
                    bytes_total=told.progress.bytes_total,
                    eta_s=left_s,
                )
            )
    capability = site.neuron.capabilities.get(one.model)
    load_s = capability.load_s if capability else 0.0
    passed_s = given.now_s - memory.since_s.get(one.copy, given.now_s)
    eta = max(0.0, load_s - passed_s) if load_s else None
    return Outlook(progress=Progress(phase=Phase.LOADING, eta_s=eta))


def _downloading(site: Site, model: ModelId, capability: ModelCapability) -> Outlook:
    load = site.neuron.load
    for told in load.progress if load else ():
        if told.model == model and told.progress.phase is Phase.DOWNLOADING:
            found = told.progress
            eta_s = None if found.eta_s is None else found.eta_s + capability.load_s
            return Outlook(
                progress=Progress(
                    phase=Phase.DOWNLOADING,
                    bytes_done=found.bytes_done,
                    bytes_total=found.bytes_total,
                    eta_s=eta_s,
                )
            )
    return Outlook(progress=Progress(phase=Phase.DOWNLOADING))


def _waiting(ground: Ground, model: ModelId, left_s: float) -> Outlook:
    load_s = min(
        (one.load_s for _, one in ground.holders(model) if one.load_s),
        default=None,
    )
    eta_s = None if load_s is None else left_s + load_s
    return Outlook(progress=Progress(phase=Phase.WAITING, eta_s=eta_s))


def _eta(outlook: Outlook) -> float:
    eta_s = outlook.progress.eta_s
    return float("inf") if eta_s is None else eta_s


# --- why it will not come


def _why(given: Given, ground: Ground, model: ModelId) -> str:
    holders = given.view.holders.get(model, ())
    reasons = []
    for node in holders:
        neuron = given.view.neurons[node]
        called = neuron.descriptor.name or str(node)[:10]
        site = ground.sites.get(node)
        if neuron.presence is not Presence.PRESENT or site is None:
            age_s = max(0.0, given.now_s - neuron.since_s)
            reasons.append(f"neuron {called} is {neuron.presence.value} for {age_s:.0f} s")
        else:
            reasons.append(f"neuron {called} {_why_not(given, ground, site, model)}")
    if not ground.entry(model).source:
        reasons = reasons or ["no neuron has it, and the catalogue names no source"]
    else:
        reasons += [
            f"neuron {site.called} {_why_not(given, ground, site, model)}"
            for node, site in ground.sites.items()
            if node not in holders
        ]
        reasons = reasons or ["no neuron is here that could pull it"]
    more = len(reasons) - REASONS_MAX
    return "; ".join(reasons[:REASONS_MAX]) + (f"; and {more} more" if more > 0 else "")


def _why_not(given: Given, ground: Ground, site: Site, model: ModelId) -> str:
    if not site.is_open:
        return f"is {site.neuron.mark.value}" if site.neuron.mark else "is draining"
    if rule := why_not_there(ground.entry(model), site.neuron.descriptor):
        return f"is {rule}"
    need = ground.need_bytes(site, model)
    if need > site.room_bytes:
        has = format_bytes(site.room_bytes)
        return f"has room for {has}, and it needs {format_bytes(need)}"
    if setback := _setback(given, site, model):
        return f"could not {setback.reason}"
    capability = site.neuron.capabilities.get(model)
    if capability is not None and capability.reason:
        return f"says: {capability.reason}"
    load = site.neuron.load
    size = ground.files_bytes(model)
    if capability is None and load is not None and size > load.disk_free_bytes:
        free = format_bytes(load.disk_free_bytes)
        return f"has {free} of disk for models, and its files are {format_bytes(size)}"
    return "has no room now: what is loaded there may not be displaced by it"


def _setback(given: Given, site: Site, model: ModelId) -> Setback | None:
    for kind, what in ((Kind.LOAD, "load"), (Kind.PULL, "pull")):
        found = given.setbacks.get((site.node, model, kind))
        if found is not None and given.now_s < found.until_s:
            return Setback(
                failures=found.failures,
                until_s=found.until_s,
                reason=f"{what} it: {found.reason.rstrip('.')}",
            )
    return None
