"""What a cortex may ask of this neuron, and what it is answered."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from helexa.neuron.supervisor.roster import Roster
from helexa.protocol.errors import ModelUnknown, RuntimeExited
from helexa.protocol.ids import ModelId, is_model_id
from helexa.protocol.messages import (
    AnnounceCapabilities,
    Cancel,
    Drain,
    LoadModel,
    Ok,
    ProvisioningResponse,
    ReportHealth,
    RequestCapabilities,
    RequestHealth,
    UnloadModel,
    Unsupported,
    UpsertModelConfig,
    Wire,
)
from helexa.protocol.work import Load

GRACE_MOST_S: Final = 3_600.0


class NeuronControl:
    """Stateless; the same one answers every cortex."""

    def __init__(
        self, roster: Roster, load: Callable[[], Load], cancel: Callable[[str], bool]
    ) -> None:
        self._roster = roster
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


def _checked(model: str) -> str:
    if not is_model_id(model):
        raise ModelUnknown(model=model)
    return model
