"""What a server says, with the names that clients of helexa know.

The model has its name here in every answer: servers say a version, a path or an alias
of their own even where nobody renamed it. Thoughts come in `reasoning` from Ollama,
LM Studio, OpenRouter and newer vLLM, where helexa has `reasoning_content` for all engines.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Final

import msgspec

from helexa.protocol.errors import RuntimeMalformed
from helexa.runtime.contract import Ability, Capabilities, ReplicaSpec, Rewrite

_fields: Final = msgspec.json.Decoder(dict[str, msgspec.Raw])
_any: Final = msgspec.json.Decoder(dict[str, Any])
_encode: Final = msgspec.json.Encoder().encode
_THOUGHTS: Final = b'"reasoning"'


def rewrite_for(spec: ReplicaSpec, offered: Capabilities) -> Callable[[], Rewrite]:
    words = _Words(_encode(spec.files.model), thinks=Ability.REASONING in offered.abilities)
    return lambda: words


class _Words:
    """Keeps nothing of one answer for the next."""

    def __init__(self, name: bytes, *, thinks: bool) -> None:
        """`name` is the model's here, as JSON."""
        self._name = msgspec.Raw(name)
        self._thinks = thinks

    def event(self, payload: bytes) -> Sequence[bytes]:
        if self._thinks and _THOUGHTS in payload:
            payload = self._thoughts(payload)
        return (self._renamed(payload),)

    def end(self) -> Sequence[bytes]:
        return ()

    def whole(self, body: bytes) -> bytes:
        return self.event(body)[0]

    def _renamed(self, payload: bytes) -> bytes:
        fields = _read(_fields, payload)
        if "model" in fields:
            fields["model"] = self._name
        return _encode(fields)

    def _thoughts(self, payload: bytes) -> bytes:
        answer = _read(_any, payload)
        for choice in _dicts(answer.get("choices")):
            for part in (choice.get("delta"), choice.get("message")):
                if isinstance(part, dict) and isinstance(part.get("reasoning"), str | None):
                    thought = part.pop("reasoning", None)
                    if thought is not None:
                        part.setdefault("reasoning_content", thought)
        return _encode(answer)


def _dicts(value: Any) -> list[dict[str, Any]]:
    return [one for one in value if isinstance(one, dict)] if isinstance(value, list) else []


def _read(decoder: msgspec.json.Decoder[dict[str, Any]], payload: bytes) -> dict[str, Any]:
    try:
        return decoder.decode(payload)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise RuntimeMalformed(reason="The runtime sent an event that is not JSON.") from error
