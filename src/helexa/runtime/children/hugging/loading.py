"""A model from its folder onto its device, and why not, in one line."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from ..server.engine import Unloadable

_KINDS = {
    "text": "AutoModelForCausalLM",
    "vision": "AutoModelForImageTextToText",
    "embedding": "AutoModel",
    "rerank": "AutoModelForSequenceClassification",
}


@dataclass(frozen=True)
class Loaded:
    model: Any
    tokenizer: Any
    processor: Any
    """None where it reads text alone."""
    device: Any


def loaded(wanted: Mapping[str, Any]) -> Loaded:
    """Raises Unloadable, or whatever the library raises."""
    try:
        import llguidance  # noqa: F401 - told at once and not at the first request that needs it
        import torch
        import transformers
        from transformers.utils import logging
    except ImportError as error:
        raise Unloadable(str(error)) from error
    # A bar that grows is many lines in a log.
    logging.disable_progress_bar()
    logging.set_verbosity_error()
    if wanted["threads"]:
        torch.set_num_threads(wanted["threads"])
    folder, kind = wanted["weights"], wanted["kind"]
    safe = {"local_files_only": True, "trust_remote_code": False}
    processor = None
    if kind == "vision":
        _need_pictures()
        processor = transformers.AutoProcessor.from_pretrained(folder, **safe)
    tokenizer = getattr(processor, "tokenizer", None)
    if tokenizer is None:
        tokenizer = transformers.AutoTokenizer.from_pretrained(folder, **safe)
    device, placed = _device(torch, wanted["devices"])
    model = getattr(transformers, _KINDS[kind]).from_pretrained(
        folder,
        dtype=_dtype(torch, wanted["dtype"]),
        # A file of pickled weights is a program; it would be taken where no other is there.
        use_safetensors=True,
        **safe,
        **placed,
    )
    return Loaded(model.eval(), tokenizer, processor, device)


def _need_pictures() -> None:
    try:
        import PIL.Image  # noqa: F401 - models that see need it, and transformers says so late
    except ImportError as error:
        raise Unloadable(str(error)) from error


def _device(torch: Any, devices: int) -> tuple[Any, dict[str, Any]]:
    if not devices:
        return torch.device("cpu"), {}
    if not torch.cuda.is_available():
        raise Unloadable("CUDA is not available: this build of torch computes on processors alone")
    # Several share the layers; none may be left out for the processor in silence.
    place: Any = {"": 0} if devices == 1 else "balanced"
    return torch.device("cuda", 0), {"device_map": place}


def _dtype(torch: Any, word: str) -> Any:
    return "auto" if word == "auto" else getattr(torch, word)
