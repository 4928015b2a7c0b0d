"""What some servers say of a model elsewhere than in their list, and how they are asked for it.

Who they are shows in their list. Ollama: `/api/show`. llama-server: `/props`. LM Studio:
`/api/v0/models/NAME`. TGI, which calls itself the owner of nothing: `/info`.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final
from urllib.parse import quote

import msgspec

from helexa.protocol.work import WorkloadClass
from helexa.runtime.contract import Ability
from helexa.runtime.openai_compatible.address import Place
from helexa.runtime.openai_compatible.listing import Entry
from helexa.runtime.openai_compatible.told import GENERATIVE, NOTHING, Told

_decoder: Final = msgspec.json.Decoder(dict[str, Any])


@dataclass(frozen=True, slots=True)
class Question:
    method: str
    path: str
    body: bytes
    read: Callable[[dict[str, Any]], Told]

    def heard(self, body: bytes) -> Told:
        """Of a 200 answer. Never raises: what cannot be read says nothing."""
        try:
            return self.read(_decoder.decode(body))
        except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
            return NOTHING
        except (TypeError, ValueError, AttributeError, KeyError):
            return NOTHING


def question(entry: Entry, place: Place) -> Question | None:
    """What would tell more of this model, if anything would."""
    match entry.owner:
        case "llamacpp":
            return Question("GET", f"{place.root}/props", b"", _llama_server)
        case "organization_owner" | "organization-owner":
            path = f"{place.root}/api/v0/models/{quote(entry.called, safe='/')}"
            return Question("GET", path, b"", _lm_studio)
        case _ if entry.owner == entry.called:
            return Question("GET", f"{place.root}/info", b"", _tgi)
        case _ if _may_be_ollama(entry):
            asked = json.dumps({"model": entry.called}).encode()
            return Question("POST", f"{place.root}/api/show", asked, _ollama)
    return None


def _may_be_ollama(entry: Entry) -> bool:
    # Its names have a tag, and the owner is the part before the slash, or `library`.
    name, colon, _ = entry.called.partition(":")
    owner, slash, _ = name.rpartition("/")
    return bool(colon) and entry.owner == (owner.rpartition("/")[2] if slash else "library")


_OLLAMA: Final[Mapping[str, frozenset[Ability]]] = {
    "tools": frozenset({Ability.TOOLS}),
    "thinking": frozenset({Ability.REASONING}),
}


def _ollama(said: dict[str, Any]) -> Told:
    words = [word for word in said.get("capabilities") or () if isinstance(word, str)]
    info: Mapping[str, Any] = said.get("model_info") or {}
    details: Mapping[str, Any] = said.get("details") or {}
    architecture = str(info.get("general.architecture") or details.get("family") or "")
    named = [each for word, each in _OLLAMA.items() if word in words]
    known = frozenset().union(*_OLLAMA.values())
    abilities = frozenset[Ability]().union(*named)
    classes: tuple[WorkloadClass, ...] = ()
    if words:
        classes = GENERATIVE if "completion" in words else ()
        classes += (WorkloadClass.EMBEDDING,) if "embedding" in words else ()
    return Told(
        classes=classes,
        sees="vision" in words if words else None,
        abilities=abilities,
        lacks=known - abilities if words else frozenset(),
        # What the model can do; what Ollama gives it is the operator's to say.
        architecture=architecture,
        parameters=int(info.get("general.parameter_count") or 0),
        quantisation=str(details.get("quantization_level") or ""),
        unfit="" if classes or not words else "it is neither for text nor for embeddings",
    )


_LLAMA: Final = frozenset(
    {
        Ability.JSON_OBJECT,
        Ability.JSON_SCHEMA,
        Ability.GRAMMAR,
        Ability.LOGPROBS,
        Ability.CHOICES,
        Ability.SEED,
        Ability.PENALTIES,
        Ability.LOGIT_BIAS,
    }
)
"""As of the same engine in the runtime llama_cpp."""


def _llama_server(said: dict[str, Any]) -> Told:
    usual: Mapping[str, Any] = said.get("default_generation_settings") or {}
    senses: Mapping[str, Any] = said.get("modalities") or {}
    template = str(said.get("chat_template") or "")
    abilities = set(_LLAMA)
    if "tools" in template and "tool_call" in template:
        # Not TOOL_CHOICE: that server takes `required` and lets the model do as it likes.
        abilities |= {Ability.TOOLS, Ability.PARALLEL_TOOLS}
    if "<think>" in template or "reasoning_content" in template:
        abilities.add(Ability.REASONING)
    return Told(
        sees=bool(senses.get("vision")) if senses else None,
        abilities=frozenset(abilities),
        context_tokens=int(usual.get("n_ctx") or 0),
    )


def _lm_studio(said: dict[str, Any]) -> Told:
    kind = str(said.get("type") or "")
    able = said.get("capabilities") or ()
    tools = frozenset({Ability.TOOLS}) if "tool_use" in able else frozenset[Ability]()
    classes: tuple[WorkloadClass, ...] = ()
    if kind in ("llm", "vlm"):
        classes = GENERATIVE
    elif kind == "embeddings":
        classes = (WorkloadClass.EMBEDDING,)
    return Told(
        classes=classes,
        sees=kind == "vlm" if kind else None,
        abilities=tools,
        context_tokens=int(said.get("loaded_context_length") or 0),
        architecture=str(said.get("arch") or ""),
        quantisation=str(said.get("quantization") or ""),
    )


def _tgi(said: dict[str, Any]) -> Told:
    if "max_total_tokens" not in said:
        return NOTHING
    return Told(
        classes=GENERATIVE,
        context_tokens=int(said.get("max_total_tokens") or 0),
    )
