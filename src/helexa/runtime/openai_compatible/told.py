"""What is known of a model that a server has: pieces of it, put together.

A server says some of it in its list, some of it elsewhere, and mostly not all. The
operator's word fills the rest; where both speak of the same thing, the server's counts.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

from helexa.protocol.ids import ModelId
from helexa.protocol.work import Modality, WorkloadClass
from helexa.runtime.contract import Ability, Capabilities, ModelFiles

FORMAT: Final = "server"
CHAT: Final = (WorkloadClass.CHAT_INTERACTIVE, WorkloadClass.CHAT_BULK)
GENERATIVE: Final = (*CHAT, WorkloadClass.COMPLETION)
_CONTEXT_MAX: Final = 1 << 24
_TEXT_CHARS_MAX: Final = 300
_PARAMETERS_MAX: Final = 1 << 50


@dataclass(frozen=True, slots=True, kw_only=True)
class Told:
    """Empty is what was not said."""

    classes: tuple[WorkloadClass, ...] = ()
    sees: bool | None = None
    abilities: frozenset[Ability] = frozenset()
    lacks: frozenset[Ability] = frozenset()
    """What it would have named, had the model that ability."""
    context_tokens: int = 0
    architecture: str = ""
    parameters: int = 0
    quantisation: str = ""
    description: str = ""
    unfit: str = ""
    """Why it cannot be served, as the server says."""
    is_borrowed: bool = False
    """That server has it from another one."""

    def then(self, more: Told) -> Told:
        """With what was heard later, which counts where both say something."""
        return Told(
            classes=more.classes or self.classes,
            sees=self.sees if more.sees is None else more.sees,
            abilities=(self.abilities - more.lacks) | more.abilities,
            lacks=(self.lacks - more.abilities) | more.lacks,
            context_tokens=more.context_tokens or self.context_tokens,
            architecture=more.architecture or self.architecture,
            parameters=more.parameters or self.parameters,
            quantisation=more.quantisation or self.quantisation,
            description=more.description or self.description,
            unfit=more.unfit or self.unfit,
            is_borrowed=more.is_borrowed or self.is_borrowed,
        )


NOTHING: Final = Told()


def capabilities(told: Told, offers: Capabilities) -> Capabilities:
    """`offers` are the operator's, for all models of a server."""
    classes = told.classes or offers.classes
    sees = Modality.IMAGE in offers.modalities if told.sees is None else told.sees
    if not set(classes) & set(CHAT):
        sees = False
    seeing = (WorkloadClass.VISION,) if sees else ()
    return Capabilities(
        classes=(*(one for one in classes if one is not WorkloadClass.VISION), *seeing),
        modalities=(Modality.TEXT, Modality.IMAGE) if sees else (Modality.TEXT,),
        abilities=told.abilities | (offers.abilities - told.lacks),
    )


def files_of(
    model: ModelId, *, server: str, called: str, told: Told, offers: Capabilities
) -> ModelFiles:
    return ModelFiles(
        model=model,
        weights=Path(),
        format=FORMAT,
        architecture=_text(told.architecture)[:64],
        description=_text(told.description),
        parameters=max(0, min(told.parameters, _PARAMETERS_MAX)),
        quantisation=_text(told.quantisation)[:64],
        context_tokens_trained=max(0, min(told.context_tokens, _CONTEXT_MAX)),
        server=server,
        called=called,
        told=capabilities(told, offers),
    )


def with_context(told: Told, context_tokens: int) -> Told:
    """Where nothing else is known of it."""
    return told if told.context_tokens else replace(told, context_tokens=context_tokens)


def _text(said: str) -> str:
    return "".join(each for each in said if each.isprintable())[:_TEXT_CHARS_MAX]
