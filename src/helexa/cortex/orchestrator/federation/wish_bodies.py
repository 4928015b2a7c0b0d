"""A request's wishes in its body: OpenRouter's members where it has them, and helexa's own.

    "models": ["a", "b"], "provider": {"only": ["ben"], "quantizations": ["fp8"]},
    "helexa": {"min_quantisation": "Q4_K_M", "federation": false}

Read into the same `Wish` as the header. What cannot be honoured is refused by its name: a
preference that is silently dropped is a promise that is silently broken.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from decimal import Decimal, InvalidOperation
from typing import Annotated, Any, Final, TypeAlias, TypeVar

import msgspec
from msgspec import Meta

from helexa.cortex.orchestrator.federation import wish as forms
from helexa.protocol.errors import BodyMalformed, RequestRejected
from helexa.protocol.ids import ModelId
from helexa.protocol.openai import body as bodies
from helexa.protocol.openai.requests import Head
from helexa.protocol.routing import Wish

NANO_PER_MILLION: Final = 1_000
"""Nano-credits a token that are one credit for a million tokens."""
_PRICE_MAX: Final = 10**15
"""Of credits for a million tokens."""
Number: TypeAlias = Annotated[float, Meta(gt=0, le=forms.NUMBER_MAX)]
Amount: TypeAlias = float | str
T = TypeVar("T")


class Cutoffs(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    p50: Number | None = None


class Sort(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    by: str | None = None
    partition: str | None = None


class MaxPrice(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Credits for a million tokens, or for one request, picture, or second of sound."""

    prompt: Amount | None = None
    completion: Amount | None = None
    request: Amount | None = None
    image: Amount | None = None
    audio: Amount | None = None


class Provider(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """OpenRouter's `provider`. Its providers are the operators here."""

    order: list[str] | None = None
    only: list[str] | None = None
    ignore: list[str] | None = None
    allow_fallbacks: bool | None = None
    quantizations: list[str] | None = None
    sort: str | Sort | None = None
    max_price: MaxPrice | None = None
    require_parameters: bool | None = None
    data_collection: str | None = None
    zdr: bool | None = None
    enforce_distillable_text: bool | None = None
    preferred_max_latency: Number | Cutoffs | None = None
    preferred_min_throughput: Number | Cutoffs | None = None


class Own(msgspec.Struct, frozen=True, forbid_unknown_fields=True, rename={"without": "not"}):
    """`helexa`: the header's parts by the same words."""

    only: list[str] | None = None
    without: list[str] | None = None
    prefer: list[str] | None = None
    fallbacks: bool | None = None
    region: list[str] | None = None
    federation: bool | None = None
    quantisation: list[str] | None = None
    min_quantisation: str | None = None
    max_price: Annotated[int, Meta(ge=0)] | None = None
    max_prompt_price: Annotated[int, Meta(ge=0)] | None = None
    max_completion_price: Annotated[int, Meta(ge=0)] | None = None
    max_first_token: Number | None = None
    min_speed: Number | None = None
    prefer_first_token: Number | None = None
    prefer_speed: Number | None = None
    order: str | None = None
    resume: bool | None = None


_provider: Final = msgspec.json.Decoder(Provider | None)
_own: Final = msgspec.json.Decoder(Own | None)
_models: Final = msgspec.json.Decoder(list[str] | None)
_plain: Final = msgspec.json.Decoder(Any)

_SORTS: Final[Mapping[str, str]] = {
    "price": "cheapest",
    "throughput": "fastest",
    "latency": "quickest",
}


def asked(head: Head, first: Wish | None) -> Wish | None:
    """All that a request asks of its way; `first` is its header's. Raises RequestRejected.

    Only for a head with any of the members that it is about.
    """
    _idle(head)
    found: list[tuple[Wish, Mapping[str, str]]] = []
    if (own := _member(_own, head.helexa, "helexa")) is not None:
        found.append((_of_own(own), _OWN_NAMES))
    if (provider := _member(_provider, head.provider, "provider")) is not None:
        found.append((_of_provider(provider), _PROVIDER_NAMES))
    if models := _member(_models, head.models, "models"):
        found.append((_wish(models=_words(forms.models, models, "models")), _PROVIDER_NAMES))
    if not found:
        return first
    whole = first or Wish()
    for one, names in found:
        whole = forms.both(whole, one, names)
    return whole


def first_model(wish: Wish | None) -> tuple[ModelId, Wish]:
    """Of a request that names its models in `models` alone. Raises BodyMalformed without any."""
    if wish is None or not wish.models:
        raise BodyMalformed("Object missing required field `model`, or it is empty.", "model")
    model, *others = wish.models
    return model, msgspec.structs.replace(wish, models=tuple(others))


def _idle(head: Head) -> None:
    """Members that may say only what is so anyway."""
    if _member(_plain, head.route, "route") not in (None, "fallback"):
        raise RequestRejected("`route` is `fallback` or nothing.", "route")
    if _member(_plain, head.transforms, "transforms") not in (None, []):
        raise RequestRejected(
            "`transforms` is empty or nothing: helexa changes and truncates no prompt.",
            "transforms",
        )


def _of_own(own: Own) -> Wish:
    at = "helexa."
    return _wish(
        only=_words(forms.names, own.only, at + "only"),
        without=_words(forms.names, own.without, at + "not"),
        prefer=_words(forms.names, own.prefer, at + "prefer"),
        fallbacks=own.fallbacks,
        regions=_words(forms.regions, own.region, at + "region"),
        federation=own.federation,
        quantisations=_words(forms.quantisations, own.quantisation, at + "quantisation"),
        quantisation_min=_word(
            forms.quantisation_min, own.min_quantisation, at + "min_quantisation"
        ),
        price_max=own.max_price,
        prompt_price_max=own.max_prompt_price,
        completion_price_max=own.max_completion_price,
        first_token_max_s=_rounded(own.max_first_token),
        speed_min=_rounded(own.min_speed),
        first_token_wanted_s=_rounded(own.prefer_first_token),
        speed_wanted=_rounded(own.prefer_speed),
        order=_word(forms.order, own.order, at + "order"),
        resume=own.resume,
    )


def _of_provider(said: Provider) -> Wish:
    _promises(said)
    at = "provider."
    price = said.max_price or MaxPrice()
    for name in ("request", "image", "audio"):
        # Nothing is asked for these here, so that any limit holds.
        _nano(getattr(price, name), f"{at}max_price.{name}")
    return _wish(
        prefer=_words(forms.names, said.order, at + "order"),
        only=_words(forms.names, said.only, at + "only"),
        without=_words(forms.names, said.ignore, at + "ignore"),
        fallbacks=said.allow_fallbacks,
        quantisations=_words(forms.quantisations, said.quantizations, at + "quantizations"),
        order=_sort(said.sort),
        prompt_price_max=_nano(price.prompt, at + "max_price.prompt"),
        completion_price_max=_nano(price.completion, at + "max_price.completion"),
        first_token_wanted_s=_median(said.preferred_max_latency),
        speed_wanted=_median(said.preferred_min_throughput),
    )


def _promises(said: Provider) -> None:
    """What no program can promise of a machine that somebody else owns is not promised."""
    for name, asked_for in (
        ("data_collection", said.data_collection not in (None, "allow")),
        ("zdr", said.zdr),
    ):
        if asked_for:
            raise RequestRejected(
                f"`provider.{name}` cannot be promised: helexa keeps no prompts, and what another "
                "operator's machine keeps nobody can see. Name those whom you trust in `only`, or "
                "stay with this operator by `helexa.federation: false`.",
                f"provider.{name}",
            )
    if said.enforce_distillable_text:
        raise RequestRejected(
            "`provider.enforce_distillable_text` cannot be kept: nothing is known of licences.",
            "provider.enforce_distillable_text",
        )


def _sort(said: str | Sort | None) -> str:
    if isinstance(said, Sort):
        if said.partition not in (None, "model"):
            raise RequestRejected(
                "`provider.sort.partition` is `model`: one model is gone through before the next.",
                "provider.sort.partition",
            )
        said = said.by
    if said is None:
        return ""
    if said not in _SORTS:
        raise RequestRejected(f"`provider.sort` is one of {', '.join(_SORTS)}.", "provider.sort")
    return _SORTS[said]


def _median(said: float | Cutoffs | None) -> float | None:
    return _rounded(said.p50 if isinstance(said, Cutoffs) else said)


def _rounded(value: float | None) -> float | None:
    """As the canonical form can say it."""
    return None if value is None else max(round(value, 6), 1e-6)


def _nano(amount: Amount | None, where: str) -> int | None:
    """Nano-credits a token, from credits for a million of them."""
    if amount is None:
        return None
    try:
        credits_ = Decimal(str(amount))
        good = 0 <= credits_ <= _PRICE_MAX
    except InvalidOperation:
        good = False
    if not good:
        raise RequestRejected(f"`{where}` is a number of credits from 0 to {_PRICE_MAX}.", where)
    return math.floor(credits_ * NANO_PER_MILLION)


def _words(
    read: Callable[[str], tuple[str, ...]], said: list[str] | None, where: str
) -> tuple[str, ...]:
    if not said:
        return ()
    if any("," in word for word in said):
        raise RequestRejected(f"`{where}` has a name with a comma in it.", where)
    return _word(read, ",".join(said), where) or ()


def _word(read: Callable[[str], T], said: str | None, where: str) -> T | None:
    if said is None:
        return None
    try:
        return read(said)
    except forms.Unreadable as error:
        reason = str(error).rstrip(",")
        raise RequestRejected(f"`{where}` {reason}.", where) from None


def _wish(**said: Any) -> Wish:
    return Wish(**{name: value for name, value in said.items() if value is not None})


def _member(decoder: msgspec.json.Decoder[Any], raw: msgspec.Raw, name: str) -> Any:
    return bodies.member(decoder, raw, name) if raw else None


_OWN_NAMES: Final[Mapping[str, str]] = {
    part.field: "helexa." + part.name.removeprefix("no-").replace("-", "_")
    for part in forms.PARTS.values()
}
_PROVIDER_NAMES: Final[Mapping[str, str]] = {
    "models": "models",
    "only": "provider.only",
    "without": "provider.ignore",
    "prefer": "provider.order",
    "fallbacks": "provider.allow_fallbacks",
    "quantisations": "provider.quantizations",
    "order": "provider.sort",
    "prompt_price_max": "provider.max_price.prompt",
    "completion_price_max": "provider.max_price.completion",
    "first_token_wanted_s": "provider.preferred_max_latency",
    "speed_wanted": "provider.preferred_min_throughput",
}
