"""The answer of `GET /v1/models`, with what a client of a fabric would like to know besides."""

from __future__ import annotations

import msgspec

from helexa.protocol.work import ModelCapability, Price


class ModelAbout(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What OpenAI has no fields for; what is not known or does not matter is left out."""

    description: str = ""
    leads_to: tuple[str, ...] = ()
    """Of an alias: the models that it stands for, the likeliest first."""
    fallbacks: tuple[str, ...] = ()
    """Asked in this order where it cannot be served."""
    price: Price | None = None
    """Nano-credits a token."""
    requests_max: int | None = None
    """Under way at once; the next is refused with 429."""
    tools: bool = False
    structured_output: bool = False
    reasoning: bool = False
    abilities: tuple[str, ...] = ()
    """These three and others, by the words of docs/runtimes."""


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
    helexa: ModelAbout = ModelAbout()


class ModelList(msgspec.Struct, frozen=True, kw_only=True):
    object: str = "list"
    data: list[ModelObject] = []


def model_object(
    capability: ModelCapability,
    *,
    created: int,
    owned_by: str = "",
    about: ModelAbout | None = None,
) -> ModelObject:
    """`about` is what is known beside the capability, which adds its own part."""
    price = capability.price
    return ModelObject(
        id=capability.model,
        owned_by=owned_by or "helexa",
        created=created,
        context_length=capability.context_tokens or None,
        state=capability.state.value,
        workloads=tuple(one.value for one in capability.classes),
        modalities=tuple(one.value for one in capability.modalities),
        helexa=msgspec.structs.replace(
            about or ModelAbout(),
            price=None if price == Price() else price,
            tools=capability.tools,
            structured_output=capability.structured_output,
            reasoning=capability.reasoning,
            abilities=capability.abilities,
        ),
    )
