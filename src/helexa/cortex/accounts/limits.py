"""What a key and its account may ask for: as it is written down, and as it holds.

Three layers, the last that says something decides: the `[limits]` of the configuration, the
account, the key. Rates hold for a key and for its account side by side, each with counts of
its own.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Any, Final, Literal, Self, TypeAlias

import msgspec
from msgspec import Meta

from helexa.cortex.settings import LimitsSettings
from helexa.util.patterns import Patterns

MODELS_MAX: Final = 256
MODEL_CHARS_MAX: Final = 256
Model: TypeAlias = Annotated[str, Meta(min_length=1, max_length=MODEL_CHARS_MAX)]


class Limits(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What is written of a key or an account. null: nothing, another layer decides; 0: no limit."""

    requests_per_s: Annotated[float, Meta(ge=0, le=1_000_000)] | None = None
    requests_burst: Annotated[int, Meta(ge=0, le=1_000_000)] | None = None
    tokens_per_minute: Annotated[int, Meta(ge=0, le=1_000_000_000)] | None = None
    concurrent: Annotated[int, Meta(ge=0, le=1_000_000)] | None = None
    models: Annotated[tuple[Model, ...], Meta(max_length=MODELS_MAX)] | None = None
    prompt_tokens_max: Annotated[int, Meta(ge=0, le=1 << 24)] | None = None
    output_tokens_max: Annotated[int, Meta(ge=0, le=1 << 24)] | None = None
    priority: Literal["interactive", "bulk"] | None = None
    """`bulk`: it never goes before others that wait."""
    weight: Annotated[float, Meta(ge=0.001, le=1_000)] | None = None
    """Its part of a busy model's tokens, beside others of weight 1."""


NO_LIMITS: Final = Limits()


def changed(limits: Limits, changes: Limits, unset: tuple[str, ...] = ()) -> Limits:
    """`limits` without those named in `unset`, and with what `changes` says."""
    new = {
        name: value for name, value in msgspec.structs.asdict(changes).items() if value is not None
    }
    return msgspec.structs.replace(limits, **{**dict.fromkeys(unset, None), **new})


def written(limits: Limits) -> str | None:
    """As the store keeps it."""
    said = said_of(limits)
    return msgspec.json.encode(said).decode() if said else None


def said_of(limits: Limits) -> dict[str, Any]:
    """What it says, without what it leaves to others."""
    builtins: dict[str, Any] = msgspec.to_builtins(limits)
    return {name: value for name, value in builtins.items() if value is not None}


def read(text: str | None) -> Limits:
    """Raises msgspec.ValidationError for what this helexa did not write."""
    return NO_LIMITS if text is None else msgspec.json.decode(text, type=Limits)


@dataclass(frozen=True, slots=True)
class Rates:
    """Limits that are counted. 0: none."""

    requests_per_s: float = 0.0
    requests_burst: int = 0
    tokens_per_minute: int = 0
    concurrent: int = 0

    @classmethod
    def of(cls, limits: Limits) -> Self | None:
        """None where nothing is limited."""
        if not (limits.requests_per_s or limits.tokens_per_minute or limits.concurrent):
            return None
        per_s = limits.requests_per_s or 0.0
        return cls(
            per_s,
            limits.requests_burst or max(int(per_s), 1),
            limits.tokens_per_minute or 0,
            limits.concurrent or 0,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Bounds:
    """What holds for one key, all layers put together."""

    key: Rates | None = None
    account: Rates | None = None
    models: tuple[Patterns, ...] = ()
    """Each of them has to take a model."""
    prompt_tokens_max: int = 0
    output_tokens_max: int = 0
    is_bulk: bool = False
    weight: float = 1.0

    def may_use(self, model: str) -> bool:
        return all(one.take(model) for one in self.models)


UNBOUND: Final = Bounds()


def bounds(defaults: LimitsSettings, account: Limits, key: Limits) -> Bounds:
    """What holds for a key that says `key`, of an account that says `account`."""
    base = of_settings(defaults)
    own = _laid_over(base, key)
    listed = (account.models, own.models)
    most = [_laid_over(base, _laid_over(account, key)), account]
    weight = key.weight if key.weight is not None else account.weight
    return Bounds(
        key=Rates.of(own),
        account=Rates.of(account),
        models=tuple(Patterns(one) for one in listed if one),
        prompt_tokens_max=_least([one.prompt_tokens_max for one in most]),
        output_tokens_max=_least([one.output_tokens_max for one in most]),
        is_bulk="bulk" in (key.priority, account.priority),
        weight=1.0 if weight is None else weight,
    )


def of_settings(settings: LimitsSettings) -> Limits:
    """What holds where neither key nor account says anything."""
    return Limits(
        requests_per_s=settings.requests_per_s,
        requests_burst=settings.requests_burst,
        tokens_per_minute=settings.tokens_per_minute,
        concurrent=settings.concurrent,
        models=settings.models,
        prompt_tokens_max=settings.prompt_tokens_max,
        output_tokens_max=settings.output_tokens_max,
    )


def _laid_over(base: Limits, over: Limits) -> Limits:
    return changed(base, over)


def _least(limits: list[int | None]) -> int:
    """Of those that limit anything; 0 where none does."""
    return min((one for one in limits if one), default=0)
