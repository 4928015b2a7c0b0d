"""The answer of `GET /v1/models`, with what a client of a fabric would like to know besides."""

from __future__ import annotations

import msgspec

from helexa.protocol.work import ModelCapability


class ModelObject(msgspec.Struct, frozen=True, kw_only=True):
    id: str
    object: str = "model"
    created: int = 0
    owned_by: str = "helexa"
    context_length: int | None = None
    state: str = ""
    """OpenAI has no such field; `loaded` answers at once, `unloaded` after a load."""
    workloads: tuple[str, ...] = ()
    modalities: tuple[str, ...] = ()


class ModelList(msgspec.Struct, frozen=True, kw_only=True):
    object: str = "list"
    data: list[ModelObject] = []


def model_object(capability: ModelCapability, *, created: int, owned_by: str = "") -> ModelObject:
    return ModelObject(
        id=capability.model,
        owned_by=owned_by or "helexa",
        created=created,
        context_length=capability.context_tokens or None,
        state=capability.state.value,
        workloads=tuple(one.value for one in capability.classes),
        modalities=tuple(one.value for one in capability.modalities),
    )
