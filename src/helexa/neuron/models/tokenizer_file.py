"""How much text one token of a tokenizer.json can stand for, where that is sure.

Tokenizers that drop, fold or forget text have no such bound: only byte pairs that know every
byte do, with nothing before them that makes a text much shorter.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, Final

import msgspec

FILE_BYTES_MAX: Final = 128 * 1024 * 1024
_COMPOSED: Final = 3
"""NFC makes one letter of as many as three, of the same length or shorter ones."""
_PRE: Final = ("ByteLevel", "Digits", "Metaspace")


class _Added(msgspec.Struct):
    content: str


class _Model(msgspec.Struct):
    type: str = ""
    vocab: Any = None
    byte_fallback: bool | None = None


class _Tokenizer(msgspec.Struct):
    model: _Model
    added_tokens: list[_Added] = []
    normalizer: dict[str, Any] | None = None
    pre_tokenizer: dict[str, Any] | None = None
    truncation: Any = None


_decoder: Final = msgspec.json.Decoder(_Tokenizer)


def token_bytes_max(path: Path) -> int:
    """0 where it is not sure, or there is no such file."""
    try:
        if path.stat().st_size > FILE_BYTES_MAX:
            return 0
        said = _decoder.decode(path.read_bytes())
    except (OSError, msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        return 0
    before = _steps(said.pre_tokenizer, "pretokenizers")
    has_bytes = said.model.byte_fallback or any(one.get("type") == "ByteLevel" for one in before)
    factor = _factor(_steps(said.normalizer, "normalizers"))
    vocabulary = said.model.vocab
    if (
        said.model.type != "BPE"
        or said.truncation is not None
        or not has_bytes
        or not factor
        or not isinstance(vocabulary, dict)
        or not all(map(_keeps, before))
    ):
        return 0
    texts = [*vocabulary, *(one.content for one in said.added_tokens)]
    return max((len(one.encode("utf-8", "surrogatepass")) for one in texts), default=0) * factor


def _steps(one: dict[str, Any] | None, within: str) -> list[dict[str, Any]]:
    if one is None:
        return []
    if one.get("type") != "Sequence":
        return [one]
    inner = one.get(within)
    return [each if isinstance(each, dict) else {} for each in inner] if inner else []


def _factor(steps: list[dict[str, Any]]) -> int:
    """How much shorter a text becomes at most; 0 where nobody knows."""
    factor = 1
    for one in steps:
        match one.get("type"):
            case "Prepend":
                pass
            case "Replace" if one.get("pattern") == {"String": " "} and one.get("content") == "▁":
                pass
            case "NFC":
                factor = _COMPOSED
            case _:
                return 0
    return factor


def _keeps(step: dict[str, Any]) -> bool:
    kind = step.get("type")
    return kind in _PRE or (kind == "Split" and step.get("behavior") != "Removed")
