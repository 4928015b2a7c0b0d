"""The answer of `GET /v1/models`, with what a client of a fabric would like to know besides."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final, Self

import msgspec

from helexa.protocol.work import ModelCapability, Price, WorkloadClass

NANO: Final = 1_000_000_000
_MADE: Final[Mapping[WorkloadClass, str]] = {
    WorkloadClass.EMBEDDING: "embeddings",
    WorkloadClass.RERANK: "scores",
    WorkloadClass.IMAGE: "image",
    WorkloadClass.AUDIO: "audio",
}


class ServedBy(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One who serves a model: neurons of the cortex that is asked, or another cortex."""

    cortex: str
    """`local`, or a name; with `operator` what a request's policy may name."""
    operator: str = ""
    """The first digits of its id."""
    neurons: int = 0
    """That have it; another cortex does not tell."""
    region: str = ""
    quantisation: str = ""
    digest: str = ""
    context_length: int = 0
    ready: bool = False
    slots: int = 0
    free: int = 0
    tokens_per_s: float = 0.0
    first_token_s: float = 0.0
    price: Price = Price()


class Pricing(msgspec.Struct, frozen=True, kw_only=True):
    """Credits a token, as decimal texts: OpenRouter has dollars in the same members."""

    prompt: str = "0"
    completion: str = "0"
    input_cache_read: str = "0"
    internal_reasoning: str = "0"
    request: str = "0"
    image: str = "0"

    @classmethod
    def of(cls, price: Price) -> Self:
        return cls(
            prompt=credits_of(price.prompt_uncached),
            completion=credits_of(price.completion),
            input_cache_read=credits_of(price.prompt_cached),
            internal_reasoning=credits_of(price.reasoning),
        )


class Architecture(msgspec.Struct, frozen=True, kw_only=True):
    input_modalities: tuple[str, ...] = ()
    output_modalities: tuple[str, ...] = ()


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
    quantisation: str = ""
    """And the digest of the weights: where all who serve it say the same."""
    digest: str = ""
    prompt_tokens_max: int = 0
    """What the key of the asker may send, and be answered with; 0: as much as the model takes."""
    output_tokens_max: int = 0
    served_by: tuple[ServedBy, ...] = ()
    """Of one model that is asked for alone."""


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
    architecture: Architecture = Architecture()
    pricing: Pricing = Pricing()
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
    modalities = tuple(one.value for one in capability.modalities)
    return ModelObject(
        id=capability.model,
        owned_by=owned_by or "helexa",
        created=created,
        context_length=capability.context_tokens or None,
        state=capability.state.value,
        workloads=tuple(one.value for one in capability.classes),
        modalities=modalities,
        architecture=Architecture(
            input_modalities=modalities, output_modalities=_made_by(capability.classes)
        ),
        pricing=Pricing.of(price),
        helexa=msgspec.structs.replace(
            about or ModelAbout(),
            price=None if price == Price() else price,
            tools=capability.tools,
            structured_output=capability.structured_output,
            reasoning=capability.reasoning,
            abilities=capability.abilities,
            quantisation=capability.quantisation,
            digest=capability.digest,
        ),
    )


def credits_of(nano: int) -> str:
    """Nano-credits as credits, exactly."""
    whole, part = divmod(nano, NANO)
    return f"{whole}.{part:09d}".rstrip("0").rstrip(".")


def _made_by(classes: tuple[WorkloadClass, ...]) -> tuple[str, ...]:
    made = dict.fromkeys(_MADE.get(one, "text") for one in classes)
    return tuple(made) or ("text",)
