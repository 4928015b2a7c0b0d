"""Which files of a source make the model that was asked for; names alone decide, nothing is read.

GGUF goes before safetensors, because what is served here is GGUF. Where several variants
would do and none was named, the usual compromise of size and quality is taken, and where
nothing says which is meant it is refused with what there is.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from helexa.neuron.models.supply.failure import SourceFailed

FILES_MAX: Final = 1_000
NAME_CHARS_MAX: Final = 400

_GGUF: Final = ".gguf"
_SAFETENSORS: Final = ".safetensors"
_PART: Final = re.compile(r"(.+)-(\d{5})-of-(\d{5})(\.[a-z]+)\Z")
_USUAL: Final = ("Q4_K_M", "Q5_K_M", "Q4_K_S", "Q6_K", "Q8_0", "Q4_0", "MXFP4", "F16", "BF16")
_USUAL_PROJECTORS: Final = ("F16", "BF16", "Q8_0", "F32")
_SHOWN_MAX: Final = 8
_POOLING: Final = re.compile(r"\d{1,2}_Pooling/config\.json\Z")
"""The one thing in a folder of a repository that belongs to a model."""
_BESIDE: Final = frozenset({
    "added_tokens.json", "chat_template.jinja", "chat_template.json", "config.json",
    "generation_config.json", "merges.txt", "preprocessor_config.json", "processor_config.json",
    "sentencepiece.bpe.model", "special_tokens_map.json", "spiece.model", "tekken.json",
    "tokenizer.json", "tokenizer.model", "tokenizer_config.json", "video_preprocessor_config.json",
    "vocab.json", "vocab.txt",
    # How a sentence model makes one vector of many.
    "modules.json", "sentence_bert_config.json", "config_sentence_transformers.json",
})  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class Chosen:
    """Names at the source. `beside` is empty for GGUF, whose one file says everything."""

    weights: tuple[str, ...]
    projector: str = ""
    beside: tuple[str, ...] = ()

    @property
    def is_gguf(self) -> bool:
        return self.weights[0].endswith(_GGUF)

    @property
    def names(self) -> tuple[str, ...]:
        return (*self.weights, *((self.projector,) if self.projector else ()), *self.beside)


def choose(names: Sequence[str], *, wanted: Sequence[str] = (), quantisation: str = "") -> Chosen:
    """Of what a source has: those `wanted`, else one model. Raises SourceFailed."""
    if len(wanted) > FILES_MAX:
        raise SourceFailed(f"it names {len(wanted)} files; a model has at most {FILES_MAX}")
    for name in wanted:
        if not is_safe(name):
            raise SourceFailed(f"a file cannot be called {name[:80]!r}")
    if missing := [name for name in wanted if name not in names]:
        raise SourceFailed(f"the source has no file {_shown(missing)}")
    usable = list(wanted) or [name for name in names if is_safe(name)]
    ggufs = [name for name in usable if name.endswith(_GGUF)]
    if ggufs:
        return _of_gguf(ggufs, quantisation, explicit=bool(wanted))
    if any(name.endswith(_SAFETENSORS) for name in usable):
        return _of_safetensors(usable, explicit=bool(wanted))
    raise SourceFailed("the source has neither GGUF nor safetensors files")


def is_safe(name: str) -> bool:
    """Whether it is a relative path that stays where it is put."""
    return (
        0 < len(name) <= NAME_CHARS_MAX
        and name.isprintable()
        and "\\" not in name
        and all(part not in ("", ".", "..") for part in name.split("/"))
    )


def parts_of(name: str) -> tuple[str, ...]:
    """All parts of the file that `name` is a part of; itself where it is whole."""
    match = _PART.match(name)
    if match is None or not 0 < int(match[3]) <= FILES_MAX:
        return (name,)
    return tuple(
        f"{match[1]}-{at:05d}-of-{match[3]}{match[4]}" for at in range(1, int(match[3]) + 1)
    )


def _of_gguf(names: list[str], quantisation: str, *, explicit: bool) -> Chosen:
    projectors = [name for name in names if _is_projector(name)]
    groups: dict[str, list[str]] = {}
    for name in names:
        if name not in projectors:
            match = _PART.match(name)
            groups.setdefault(match[1] + _GGUF if match else name, []).append(name)
    if quantisation and not explicit:
        fitting = {one: of for one, of in groups.items() if _is_of(one, quantisation)}
    elif len(groups) > 1 and not explicit:
        fitting = next(filter(None, (_only_of(groups, usual) for usual in _USUAL)), groups)
    else:
        fitting = groups
    if not fitting:
        raise SourceFailed(
            f"it has no {quantisation or 'weights'}; there is {_shown(list(groups))}"
        )
    if len(fitting) > 1:
        raise SourceFailed(
            f"{len(fitting)} models would do: {_shown(list(fitting))}; name its files, or its "
            "quantisation"
        )
    (files,) = fitting.values()
    parts = parts_of(files[0])
    if missing := [name for name in parts if name not in files]:
        raise SourceFailed(f"the source lacks {_shown(missing)} of {len(parts)} parts")
    return Chosen(weights=parts, projector=_projector(projectors))


def _only_of(groups: dict[str, list[str]], quantisation: str) -> dict[str, list[str]]:
    fitting = {name: of for name, of in groups.items() if _is_of(name, quantisation)}
    return fitting if len(fitting) == 1 else {}


def _is_of(name: str, quantisation: str) -> bool:
    """Whether it stands in the name by itself: `Q4_K` is not `Q4_K_M`, nor is `UD-Q4_K_M` it."""
    pattern = rf"(?<![A-Za-z0-9_])(?<!UD-){re.escape(quantisation)}(?![A-Za-z0-9_])"
    if quantisation.upper().startswith("UD-"):
        pattern = rf"(?<![A-Za-z0-9_]){re.escape(quantisation)}(?![A-Za-z0-9_])"
    return re.search(pattern, name, re.IGNORECASE) is not None


def _is_projector(name: str) -> bool:
    return "mmproj" in name.rpartition("/")[2].lower()


def _projector(names: list[str]) -> str:
    for usual in _USUAL_PROJECTORS:
        for name in sorted(names):
            if _is_of(name, usual):
                return name
    return min(names, default="")


def _of_safetensors(names: list[str], *, explicit: bool) -> Chosen:
    # Folders of a repository hold other forms of the same weights, for other programs.
    top = [name for name in names if "/" not in name]
    weights = sorted(name for name in top if name.endswith(_SAFETENSORS))
    indexes = [name for name in top if name.endswith(f"{_SAFETENSORS}.index.json")]
    if not explicit:
        usual = [name for name in weights if name.startswith("model")]
        parts = [name for name in usual if _PART.match(name)]
        weights = parts if indexes and parts else (usual or weights)
    if "config.json" not in top:
        raise SourceFailed("its safetensors come without a config.json, which says what they are")
    for name in weights:
        if missing := [part for part in parts_of(name) if part not in weights]:
            raise SourceFailed(f"the source lacks {_shown(missing)}")
    if not weights:
        raise SourceFailed("the source has no weights at its top")
    rest = [name for name in top if explicit and name not in weights and name not in indexes]
    pooling = [name for name in names if _POOLING.match(name)]
    beside = sorted({*rest, *(name for name in top if name in _BESIDE), *indexes, *pooling})
    return Chosen(weights=tuple(weights), beside=tuple(beside))


def _shown(names: Sequence[str]) -> str:
    shown = ", ".join(name[:80] for name in sorted(names)[:_SHOWN_MAX])
    more = len(names) - _SHOWN_MAX
    return f"{shown} and {more} more" if more > 0 else shown
