"""Texts to vectors, and pairs of texts to scores: one pass of the model, many rows at a time."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from ..server.engine import TooLong
from .loading import Loaded
from .turns import Turns

_ROWS_MAX = 32
_TOKENS_MAX = 2048
"""Of one pass, padding included; `runtime/transformers/memory.py` counts with it."""

Row = Mapping[str, list[int]]


class Vectors:
    def __init__(self, loaded: Loaded, turns: Turns, context: int) -> None:
        self._loaded = loaded
        self._turns = turns
        self._context = context

    def read(self, texts: Sequence[Any]) -> list[Row]:
        """Of texts, of pairs of texts, or of tokens that are taken as they are."""
        rows = [self._row(text) for text in texts]
        longest = max(len(row["input_ids"]) for row in rows)
        if longest > self._context:
            raise TooLong(longest, self._context)
        return rows

    def _row(self, text: Any) -> Row:
        if isinstance(text, list):
            return {"input_ids": list(text), "attention_mask": [1] * len(text)}
        texts = text if isinstance(text, tuple) else (text,)
        # A tokenizer's own file may ask for cutting and padding.
        found = self._loaded.tokenizer(*texts, padding=False, truncation=False)
        return {name: found[name] for name in found}

    def embedded(self, rows: Sequence[Row], pooling: str, dimensions: int | None) -> list[Any]:
        """Of length one, so that those of all engines are alike."""
        found: list[Any] = []
        for inputs in self._passes(rows):
            states = self._run(inputs).last_hidden_state.float()
            pooled = _pooled(states, inputs["attention_mask"], pooling)[:, :dimensions]
            found += torch.nn.functional.normalize(pooled, dim=-1).tolist()
        return found

    def scored(self, rows: Sequence[Row]) -> list[float]:
        """The one label's own number, as it comes."""
        found: list[float] = []
        for inputs in self._passes(rows):
            found += self._run(inputs).logits.float()[:, 0].tolist()
        return found

    def _run(self, inputs: Mapping[str, Tensor]) -> Any:
        with torch.inference_mode(), self._turns.mine():
            return self._loaded.model(**inputs)

    def _passes(self, rows: Sequence[Row]) -> Iterator[Mapping[str, Tensor]]:
        at = 0
        while at < len(rows):
            end, width = at, 0
            while end < len(rows) and end - at < _ROWS_MAX:
                width = max(width, len(rows[end]["input_ids"]))
                if end > at and width * (end - at + 1) > _TOKENS_MAX:
                    break
                end += 1
            yield self._padded(rows[at:end])
            at = end

    def _padded(self, rows: Sequence[Row]) -> Mapping[str, Tensor]:
        width = max(len(row["input_ids"]) for row in rows)
        fill = {"input_ids": self._loaded.tokenizer.pad_token_id or 0}
        return {
            name: torch.tensor(
                [row[name] + [fill.get(name, 0)] * (width - len(row[name])) for row in rows],
                device=self._loaded.device,
            )
            for name in rows[0]
        }


def _pooled(states: Tensor, mask: Tensor, pooling: str) -> Tensor:
    if pooling == "cls":
        return states[:, 0]
    if pooling == "last":
        return states[torch.arange(len(states)), mask.sum(1) - 1]
    weights = mask.unsqueeze(-1).to(states.dtype)
    return (states * weights).sum(1) / weights.sum(1)
