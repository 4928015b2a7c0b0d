"""A broken stream as `choice` looks at it: what was asked, and how far its answer came."""

from __future__ import annotations

from typing import Any, Final

from helexa.protocol.continuation import Continuation, Delivered
from helexa.protocol.openai import body as bodies
from helexa.protocol.pictures.places import may_hold, places
from helexa.runtime.continuing.choice import Begun, Sampling, Situation
from helexa.runtime.contract import (
    Ability,
    Capabilities,
    Endpoint,
    ReplicaSpec,
    RuntimeAdapter,
    ThinkingOnAdapter,
    TokenizingAdapter,
)
from helexa.runtime.openai import structure, tools

_BY_LOT: Final = ("mirostat", "xtc_probability", "dynatemp_range")
"""They draw by lot also at a temperature of 0."""
_FORMS: Final = (
    *("grammar", "json_schema", "structured_outputs", "ignore_eos", "reasoning_budget_tokens"),
    *("guided_json", "guided_regex", "guided_choice", "guided_grammar"),
)
"""What is kept about an answer while it is made, and begins anew where a prompt ends."""


def read(
    wanted: Continuation,
    body: bytes,
    adapter: RuntimeAdapter,
    spec: ReplicaSpec,
    offered: Capabilities,
) -> Situation:
    """`body` is the request, its pictures fetched. Raises a 400."""
    raw = bodies.fields(body)
    is_chat = wanted.path == Endpoint.CHAT.value
    choices = bodies.value(raw, "n", int) or 1
    prompts = 1 if is_chat else bodies.prompts_in(raw, "prompt")
    finished = [one for one in wanted.delivered.choices if one.finish_reason]
    thinks = is_chat and Ability.REASONING in offered.abilities
    return Situation(
        sampling=_sampling(raw),
        begun=begun(wanted.delivered),
        is_chat=is_chat,
        is_plain=not thinks and not _is_formed(raw) and not (is_chat and _sees(body)),
        is_several=choices * prompts > 1,
        has_logprobs=bool(bodies.value(raw, "logprobs", bool | int)),
        is_complete=len(finished) >= choices * prompts,
        is_deterministic=spec.deterministic and Ability.DETERMINISTIC in offered.abilities,
        by_tokens=Ability.CONTINUE_IDS in offered.abilities
        and isinstance(adapter, TokenizingAdapter),
        by_text=Ability.CONTINUE_TEXT in offered.abilities,
        by_thought=isinstance(adapter, ThinkingOnAdapter) and adapter.thinks_on,
    )


def begun(delivered: Delivered) -> Begun:
    if any(one.tool_calls for one in delivered.choices):
        return Begun.CALL
    has_text = any(any(one.content) for one in delivered.choices)
    has_thoughts = any(any(one.reasoning) for one in delivered.choices)
    if has_thoughts:
        return Begun.AFTER_THOUGHT if has_text else Begun.THOUGHT
    return Begun.TEXT if has_text else Begun.NOTHING


def _sampling(raw: bodies.Fields) -> Sampling:
    by_lot = any(bodies.value(raw, name, float) for name in _BY_LOT)
    if bodies.value(raw, "temperature", float) == 0 and not by_lot:
        return Sampling.GREEDY
    seed = bodies.value(raw, "seed", int)
    # Below 0 engines choose one themselves.
    return Sampling.FREE if seed is None or seed < 0 else Sampling.SEEDED


def _is_formed(raw: bodies.Fields) -> bool:
    wish = tools.read(raw)
    if wish is not None and wish.tools and wish.choice != "none":
        return True
    if structure.read(raw) is not None:
        return True
    return any(bodies.value(raw, name, Any) for name in _FORMS)


def _sees(body: bytes) -> bool:
    return may_hold(body) and bool(places(body))
