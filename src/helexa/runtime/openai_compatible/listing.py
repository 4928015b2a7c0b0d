"""The answer to `/models`, read as far as servers agree, and then as far as each goes.

All have `id`. Beyond that: helexa has a member of its own; vLLM and SGLang say
`max_model_len`; llama-server has `meta`; OpenRouter names modalities and the parameters
that it supports; Mistral has `capabilities`; Groq has `context_window`; Together sends a
bare list with a `type`. What is not there is not guessed.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import msgspec

from helexa.protocol.work import Modality, WorkloadClass
from helexa.runtime.contract import Ability
from helexa.runtime.openai_compatible.told import CHAT, GENERATIVE, NOTHING, Told

ENTRIES_MAX: Final = 4096
_CALLED_CHARS_MAX: Final = 512
_decoder: Final = msgspec.json.Decoder(Any)

Json = Mapping[str, Any]


class ListRefused(Exception):
    """It is no list of models; says why."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    called: str
    owner: str = ""
    """`owned_by`, by which several servers are known."""
    stamp: str = ""
    """Another one where the model of that name is another one."""
    told: Told = NOTHING


def entries(body: bytes) -> Sequence[Entry]:
    """In the server's order. Raises ListRefused."""
    try:
        answer = _decoder.decode(body)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        raise ListRefused("it answers /models with something that is not JSON") from None
    data = answer.get("data") if isinstance(answer, dict) else answer
    if not isinstance(data, list):
        raise ListRefused("it answers /models with something that is no list of models")
    found = []
    for one in data[:ENTRIES_MAX]:
        if isinstance(one, dict) and isinstance(one.get("id"), str):
            called = one["id"]
            if 0 < len(called) <= _CALLED_CHARS_MAX and called.isprintable():
                found.append(_entry(called, one))
    return found


def _entry(called: str, one: Json) -> Entry:
    told = _plain(one)
    if isinstance(own := one.get("helexa"), dict):
        told = told.then(_helexa(one, own))
    return Entry(
        called=called,
        owner=_str(one, "owned_by"),
        stamp=f"{one.get('created')} {one.get('digest')}",
        told=told,
    )


def _plain(one: Json) -> Told:
    told = Told(
        context_tokens=next(
            (
                size
                for name in ("max_model_len", "context_length", "context_window",
                             "max_context_length")
                if (size := _int(one, name))
            ),
            0,
        ),
        description=_str(one, "description"),
        unfit="the server says that it is not active" if one.get("active") is False else "",
    )  # fmt: skip
    told = told.then(_KINDS.get(_str(one, "type"), NOTHING))
    if isinstance(meta := one.get("meta"), dict):
        # `n_ctx_train` is what it could do, not what that server gives a request.
        told = told.then(Told(parameters=_int(meta, "n_params")))
    if isinstance(able := one.get("capabilities"), dict):
        told = told.then(_mistral(able))
    if isinstance(built := one.get("architecture"), dict):
        told = told.then(_openrouter(one, built))
    return told


_KINDS: Final[Mapping[str, Told]] = {
    "chat": Told(classes=GENERATIVE),
    "language": Told(classes=GENERATIVE),
    "llm": Told(classes=GENERATIVE, sees=False),
    "vlm": Told(classes=GENERATIVE, sees=True),
    "embedding": Told(classes=(WorkloadClass.EMBEDDING,)),
    "embeddings": Told(classes=(WorkloadClass.EMBEDDING,)),
    "rerank": Told(classes=(WorkloadClass.RERANK,)),
    "image": Told(unfit="it makes pictures"),
    "audio": Told(unfit="it is for sound"),
    "moderation": Told(unfit="it is for moderation"),
}
"""By `type`, as Together, LM Studio and others write it."""


def _helexa(one: Json, own: Json) -> Told:
    """A neuron shows a whole capability; a cortex a part of it, the rest beside it."""
    classes = _members(WorkloadClass, own.get("classes") or one.get("workloads"))
    modalities = _members(Modality, own.get("modalities") or one.get("modalities"))
    words = [name for name in ("tools", "structured_output", "reasoning") if own.get(name)]
    renamed = {"structured_output": Ability.JSON_SCHEMA.value}
    abilities = _members(
        Ability, [*(renamed.get(word, word) for word in words), *_list(own, "abilities")]
    )
    # How that neuron runs its engines is set there; nobody can ask for it from here.
    abilities = [one for one in abilities if one is not Ability.DETERMINISTIC]
    state = _str(own, "state") or _str(one, "state")
    reason = _str(own, "reason") if state == "failed" else ""
    return Told(
        classes=tuple(classes),
        sees=Modality.IMAGE in modalities if modalities else None,
        abilities=frozenset(abilities),
        lacks=frozenset(Ability) - frozenset(abilities) if classes else frozenset(),
        context_tokens=_int(own, "context_tokens"),
        architecture=_str(own, "architecture"),
        parameters=_int(own, "parameters"),
        quantisation=_str(own, "quantisation"),
        unfit=(reason or "it failed there") if state == "failed" else "",
        is_borrowed=_str(own, "runtime") == "openai_compatible",
    )


def _mistral(able: Json) -> Told:
    if "completion_chat" not in able:
        return NOTHING
    if not able.get("completion_chat"):
        return Told(unfit="it is not for chat")
    tools = frozenset({Ability.TOOLS}) if able.get("function_calling") else frozenset()
    return Told(
        classes=CHAT,
        sees=bool(able.get("vision")),
        abilities=tools,
        lacks=frozenset({Ability.TOOLS}) - tools,
    )


_PARAMETERS: Final[Mapping[str, tuple[Ability, ...]]] = {
    "tools": (Ability.TOOLS, Ability.PARALLEL_TOOLS),
    "tool_choice": (Ability.TOOL_CHOICE,),
    "response_format": (Ability.JSON_OBJECT,),
    "structured_outputs": (Ability.JSON_SCHEMA,),
    "reasoning": (Ability.REASONING,),
    "logprobs": (Ability.LOGPROBS,),
    "seed": (Ability.SEED,),
    "frequency_penalty": (Ability.PENALTIES,),
    "logit_bias": (Ability.LOGIT_BIAS,),
}
"""What OpenRouter calls supported parameters."""


def _openrouter(one: Json, built: Json) -> Told:
    takes, gives = _list(built, "input_modalities"), _list(built, "output_modalities")
    if gives and "text" not in gives:
        return Told(unfit=f"it answers with {', '.join(map(str, gives))}")
    named = {word for word in _list(one, "supported_parameters") if isinstance(word, str)}
    known = frozenset(each for words in _PARAMETERS.values() for each in words)
    abilities = frozenset(
        each for name, words in _PARAMETERS.items() if name in named for each in words
    )
    return Told(
        classes=GENERATIVE if takes else (),
        sees="image" in takes if takes else None,
        abilities=abilities,
        lacks=known - abilities if named else frozenset(),
    )


def _members(kind: Any, words: Any) -> list[Any]:
    known = {one.value: one for one in kind}
    said = words if isinstance(words, list) else []
    return [known[word] for word in said if isinstance(word, str) and word in known]


def _list(one: Json, name: str) -> list[Any]:
    found = one.get(name)
    return found if isinstance(found, list) else []


def _str(one: Json, name: str) -> str:
    found = one.get(name)
    return found if isinstance(found, str) else ""


def _int(one: Json, name: str) -> int:
    found = one.get(name)
    return found if isinstance(found, int) and not isinstance(found, bool) and found > 0 else 0
