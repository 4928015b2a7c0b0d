"""What an operator says that a model can do, in words: kinds of work and abilities."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Final

from helexa.protocol.work import Modality, WorkloadClass
from helexa.runtime.contract import Ability, Capabilities

_CHAT: Final = (WorkloadClass.CHAT_INTERACTIVE, WorkloadClass.CHAT_BULK)
_KINDS: Final[Mapping[str, tuple[WorkloadClass, ...]]] = {
    "chat": _CHAT,
    "completion": (WorkloadClass.COMPLETION,),
    "embedding": (WorkloadClass.EMBEDDING,),
    "rerank": (WorkloadClass.RERANK,),
    "vision": (*_CHAT, WorkloadClass.VISION),
}
WORDS: Final = (*_KINDS, *(one.value for one in Ability))
USUAL: Final = ("chat", "completion")


def read(words: Collection[str]) -> Capabilities:
    """Of words from `WORDS`; no kind of work among them means the usual two."""
    kinds = [word for word in words if word in _KINDS] or USUAL
    classes = dict.fromkeys(one for kind in kinds for one in _KINDS[kind])
    sees = WorkloadClass.VISION in classes
    return Capabilities(
        classes=tuple(classes),
        modalities=(Modality.TEXT, Modality.IMAGE) if sees else (Modality.TEXT,),
        abilities=frozenset(Ability(word) for word in words if word not in _KINDS),
    )
