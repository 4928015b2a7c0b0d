"""Numbers that have the same range on every runtime, held before any engine is asked.

Engines differ in what they make of a number outside: one refuses it in its own words, another
takes the nearest, a third goes on with nonsense. A client of a model should not have to know
which of them serves it.
"""

from __future__ import annotations

from typing import Any, Final

from helexa.protocol.errors import BodyMalformed, RequestRejected
from helexa.protocol.openai import body as bodies
from helexa.runtime.contract import ReplicaSpec

CHOICES_MAX: Final = 128
LOGPROBS_MAX: Final = 20
BIAS_MAX: Final = 100
_TOKEN_MAX: Final = (1 << 31) - 1
_RANGES: Final[tuple[tuple[str, Any, int, int], ...]] = (
    ("temperature", float, 0, 2),
    ("top_p", float, 0, 1),
    ("frequency_penalty", float, -2, 2),
    ("presence_penalty", float, -2, 2),
    ("top_logprobs", int, 0, LOGPROBS_MAX),
    # Of a chat it is true or false, and the number stands above.
    ("logprobs", bool | int, 0, LOGPROBS_MAX),
    # llama.cpp's name: without a bound, each token comes with all of the vocabulary.
    ("n_probs", int, 0, LOGPROBS_MAX),
    ("n", int, 1, CHOICES_MAX),
    ("best_of", int, 1, CHOICES_MAX),
)
_KINDS: Final[tuple[tuple[str, Any], ...]] = (
    *(("top_k", int | float), ("seed", int), ("min_p", float), ("typical_p", float)),
    *(("repeat_penalty", float), ("repetition_penalty", float), ("min_tokens", int)),
    *((f"mirostat{part}", int | float) for part in ("", "_tau", "_eta")),
    *((f"dynatemp_{part}", int | float) for part in ("range", "exponent")),
    *((f"dry_{part}", int | float) for part in ("multiplier", "base", "allowed_length")),
    *((f"xtc_{part}", int | float) for part in ("probability", "threshold")),
    *((name, int | float) for name in ("dry_penalty_last_n", "repeat_last_n", "top_n_sigma")),
    *((name, int | float) for name in ("n_keep", "n_discard", "n_indent", "min_keep")),
    *((name, int | float) for name in ("adaptive_target", "adaptive_decay", "length_penalty")),
    *((name, int | float) for name in ("id_slot", "t_max_predict_ms", "priority")),
)
"""Engines' own numbers: of the right kind, whatever their range is. Of llama.cpp's, those that are
whole take others, too, and round them."""


def check(raw: bodies.Fields, spec: ReplicaSpec) -> None:
    """Raises BodyMalformed naming the field; RequestRejected for more choices than slots."""
    for name, kind, least, most in _RANGES:
        value = bodies.value(raw, name, kind)
        if value is not None and not least <= value <= most:
            what = "a whole number" if kind is int else "a number"
            raise BodyMalformed(reason=f"`{name}` is {what}, {least} to {most}.", field=name)
    for name, kind in _KINDS:
        bodies.value(raw, name, kind)
    _check_logprobs(raw)
    _check_choices(raw, spec)
    _check_best(raw)
    _check_stop(raw)
    _check_bias(raw)


def _check_logprobs(raw: bodies.Fields) -> None:
    wanted = bodies.value(raw, "top_logprobs", int)
    if wanted and not bodies.value(raw, "logprobs", bool | int):
        raise BodyMalformed(
            reason="`top_logprobs` needs `logprobs` to be true.", field="top_logprobs"
        )


def _check_choices(raw: bodies.Fields, spec: ReplicaSpec) -> None:
    wanted = bodies.value(raw, "n", int)
    # How much a server elsewhere does at once is its own business.
    if wanted is None or wanted == 1 or spec.files.told is not None or wanted <= spec.slots:
        return
    raise RequestRejected(
        reason=f"`n` is at most {spec.slots}: so many answers at once this model gives.", field="n"
    )


def _check_best(raw: bodies.Fields) -> None:
    best = bodies.value(raw, "best_of", int)
    if best is not None and best < (bodies.value(raw, "n", int) or 1):
        raise BodyMalformed(
            reason="`best_of` is `n` or more: so many answers are chosen from.", field="best_of"
        )


def _check_stop(raw: bodies.Fields) -> None:
    stop = bodies.value(raw, "stop", str | list[str])
    # Nothing is found at the very beginning, or never: engines do not agree.
    if stop is not None and "" in ([stop] if isinstance(stop, str) else stop):
        raise BodyMalformed(reason="`stop` is a text, or texts, that are not empty.", field="stop")


def _check_bias(raw: bodies.Fields) -> None:
    bias = bodies.value(raw, "logit_bias", dict[str, float])
    for token, by in (bias or {}).items():
        is_token = token.isascii() and token.isdecimal() and len(token) <= 10
        if not is_token or int(token) > _TOKEN_MAX or not -BIAS_MAX <= by <= BIAS_MAX:
            raise BodyMalformed(
                reason=f"`logit_bias` maps ids of tokens to -{BIAS_MAX}..{BIAS_MAX}.",
                field="logit_bias",
            )
