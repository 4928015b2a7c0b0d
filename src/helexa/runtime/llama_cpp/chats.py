"""A chat request as llama.cpp's server has to be asked it, and its answer turned back."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from helexa.protocol.errors import CapabilityMissing
from helexa.protocol.openai import body as bodies
from helexa.runtime.contract import (
    Ability,
    Capabilities,
    ChildRequest,
    Endpoint,
    ReplicaSpec,
    Rewrite,
)
from helexa.runtime.llama_cpp import refusals, shapes, steering, stops, thoughts
from helexa.runtime.openai import abilities, calls, requests, structure, tools

_RUNTIME: Final = "llama_cpp"


def request(raw: bodies.Fields, spec: ReplicaSpec, offered: Capabilities) -> ChildRequest:
    """Raises a 400."""
    wish = tools.read(raw)
    _check_together(raw, wish, spec)
    changes = requests.generation(raw, spec)
    changes.update(thoughts.changes(raw, spec, runtime=_RUNTIME))
    changes.update(_continuing(raw))
    changes.update(refusals.changes(raw))
    steered = steering.steered(raw, wish, spec)
    if wish is None or wish.choice != "required":
        changes.update(shapes.changes(raw))
    changes.update(steered.changes)
    rewrites: list[Callable[[], Rewrite]] = []
    if stops.wanted(raw, spec):
        changes["verbose"] = True
        # First: what is left out here has parts that the others look for.
        rewrites.append(stops.StopNamed)
    if Ability.REASONING in offered.abilities:
        # Each piece then says how many tokens there were so far.
        changes["timings_per_token"] = True
        rewrites.append(thoughts.ThoughtsCounted)
    rewrites.extend(steered.rewrites)
    return requests.streamed(Endpoint.CHAT, raw, changes, rewrite=calls.chained(rewrites))


def _check_together(raw: bodies.Fields, wish: tools.Wish | None, spec: ReplicaSpec) -> None:
    """What the engine can do, and not at once."""
    if wish is None or not wish.tools:
        return
    if bodies.value(raw, "logprobs", bool):
        raise _missing("log probabilities together with tools", "logprobs", spec)
    if wish.choice == "none":
        return
    for at, tool in enumerate(wish.tools):
        if tool.is_strict:
            shapes.check_strict(tool.parameters, f"tools[{at}].function.parameters")
    if wish.choice == "auto" and structure.read(raw) is not None:
        raise _missing("a form of the answer together with tools", "response_format", spec)


def _missing(said: str, field: str, spec: ReplicaSpec) -> CapabilityMissing:
    return abilities.missing(said, field, spec, _RUNTIME)


def _continuing(raw: bodies.Fields) -> dict[str, bool]:
    """The engine refuses `continue_final_message` unless this other default is taken back."""
    asked = bodies.value(raw, "continue_final_message", bool | str)
    if asked and "add_generation_prompt" not in raw:
        return {"add_generation_prompt": False}
    return {}
