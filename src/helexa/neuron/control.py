"""What a cortex may ask of this neuron, and what it is answered."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final, TypeAlias, assert_never

from helexa.neuron.models.supply.pulls import Pulls
from helexa.neuron.supervisor.roster import Roster
from helexa.protocol.errors import ModelUnknown, RuntimeExited
from helexa.protocol.ids import ModelId, is_model_id
from helexa.protocol.messages import (
    AnnounceCapabilities,
    Cancel,
    CancelPull,
    Drain,
    LoadModel,
    Ok,
    PieceHolder,
    ProvisioningResponse,
    PullModel,
    RemoveModel,
    ReportHealth,
    RequestCapabilities,
    RequestHealth,
    SharePieces,
    UnloadModel,
    Unsupported,
    UpsertModelConfig,
    Wire,
)
from helexa.protocol.work import Load, ModelState

GRACE_MOST_S: Final = 3_600.0

Share: TypeAlias = Callable[[ModelId, tuple[PieceHolder, ...]], None]


class NeuronControl:
    """Stateless; the same one answers every cortex."""

    def __init__(
        self,
        roster: Roster,
        load: Callable[[], Load],
        cancel: Callable[[str], bool],
        *,
        supply: SupplyControl | None = None,
    ) -> None:
        """Without `supply`, models come and go only as files that somebody puts there."""
        self._roster = roster
        self._supply = supply
        self._load = load
        self._cancel = cancel

    async def answer(self, message: Wire) -> Wire | None:
        """None for what was only told. A HelexaError leaves as the refusal it is."""
        match message:
            case LoadModel():
                return await self._loaded(message)
            case UnloadModel(command=command, model=model):
                grace_s = max(0.0, min(message.grace_s, GRACE_MOST_S))
                await self._roster.unload(_checked(model), grace_s, if_idle=message.if_idle)
                return self._now(command, model)
            case SharePieces(model=model, peers=peers) if self._supply is not None:
                self._supply.share(ModelId(_checked(model)), peers)
                return Ok()
            case PullModel() | CancelPull() | RemoveModel() if self._supply is not None:
                _checked(message.model)
                return await self._supply.answer(message)
            case UpsertModelConfig(command=command, model=model, config=config):
                self._roster.configure(_checked(model), config)
                return self._now(command, model)
            case Drain(enabled=enabled):
                self._roster.drain(enabled=enabled)
                return Ok()
            case RequestCapabilities():
                return AnnounceCapabilities(capabilities=self._roster.capabilities())
            case RequestHealth():
                return ReportHealth(load=self._load())
            case Cancel(request=request):
                self._cancel(request)
                return None
            case _:
                return Unsupported(tag=str(message.__struct_config__.tag))

    async def _loaded(self, asked: LoadModel) -> Wire:
        try:
            remark = await self._roster.load(_checked(asked.model), asked.config)
        except RuntimeExited as error:
            # It was tried; a refusal would say that it was not.
            remark = error.message
        return self._now(asked.command, asked.model, reason=remark)

    def _now(self, command: str, model: ModelId, reason: str = "") -> ProvisioningResponse:
        capability = self._roster.capability(model)
        return ProvisioningResponse(
            command=command,
            model=model,
            state=capability.state,
            reason=reason or capability.reason,
        )


class SupplyControl:
    """The part about where models come from, and that they go."""

    def __init__(self, roster: Roster, pulls: Pulls, share: Share) -> None:
        """`share` says to whom pieces of a model are given from now on."""
        self._roster = roster
        self._pulls = pulls
        self.share = share

    async def answer(self, message: PullModel | CancelPull | RemoveModel) -> Wire:
        match message:
            case PullModel(model=model, source=source):
                pin, peers = message.pin, message.peers
                if await self._pulls.pull(model, source, peers=peers, pin=pin):
                    return self._going_on(message)
            case CancelPull(model=model):
                await self._pulls.cancel(model)
            case RemoveModel(model=model):
                await self._pulls.remove(model)
            case _:
                assert_never(message)
        return self._standing(message.command, message.model)

    def _going_on(self, asked: PullModel) -> Wire:
        told = self._pulls.progress_of(asked.model)
        if told is None:
            return self._standing(asked.command, asked.model)
        return ProvisioningResponse(
            command=asked.command,
            model=asked.model,
            state=ModelState.DOWNLOADING,
            final=False,
            bytes_done=told.progress.bytes_done,
            bytes_total=told.progress.bytes_total,
            eta_s=told.progress.eta_s,
        )

    def _standing(self, command: str, model: ModelId) -> ProvisioningResponse:
        said = next((one for one in self._roster.capabilities() if one.model == model), None)
        return ProvisioningResponse(
            command=command,
            model=model,
            state=said.state if said else ModelState.UNLOADED,
            reason=said.reason if said else "",
        )


def _checked(model: str) -> str:
    if not is_model_id(model):
        raise ModelUnknown(model=model)
    return model
