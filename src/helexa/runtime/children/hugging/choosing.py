"""The next token, out of the scores of all: as a request wants it and nobody else.

transformers' own way to sample draws from one stream of chance for the whole process, so a
seed would hold for nobody while others are served, too. Here each choice has a stream of
its own, and what is chosen is handed on as the only token with a chance.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from .forms import Form

_BANNED = -100.0
"""As a bias it means never."""


@dataclass(frozen=True)
class Taste:
    temperature: float = 1.0
    top_k: int = 0
    top_p: float = 1.0
    min_p: float = 0.0
    frequency: float = 0.0
    presence: float = 0.0
    repetition: float = 1.0
    bias: Mapping[int, float] = field(default_factory=dict)
    ends: frozenset[int] = frozenset()
    """Never chosen, where an answer is not to end."""
    logprobs: int | None = None
    """How many others to tell of with each token; None is nothing at all."""

    @classmethod
    def of(cls, said: Mapping[str, Any], usual: Mapping[str, Any], ends: frozenset[int]) -> Taste:
        """`usual` is what the model's own files recommend for what a client leaves open."""
        own = {**usual, **said}
        told = own.get("top_logprobs", 0) if own.get("logprobs") is True else own.get("logprobs")
        repetition = own.get("repetition_penalty", own.get("repeat_penalty", 1.0))
        return cls(
            temperature=own.get("temperature", 1.0),
            top_k=max(0, own.get("top_k", 0)),
            top_p=own.get("top_p", 1.0),
            min_p=own.get("min_p", 0.0),
            frequency=own.get("frequency_penalty", 0.0),
            presence=own.get("presence_penalty", 0.0),
            repetition=repetition or 1.0,
            bias={int(token): value for token, value in own.get("logit_bias", {}).items()},
            ends=ends if own.get("ignore_eos") else frozenset(),
            logprobs=None if told is None or told is False else int(told),
        )


@dataclass(frozen=True)
class Chosen:
    token: int
    logprob: float = 0.0
    others: tuple[tuple[int, float], ...] = ()


class Chooser:
    """A processor of scores for one choice. `chosen` is the last token and what was asked of it."""

    def __init__(
        self,
        taste: Taste,
        chance: torch.Generator | None,
        prompt_tokens: int,
        form: Form | None = None,
    ) -> None:
        self.chosen: Chosen | None = None
        self._form = form
        self._taste = taste
        self._chance = chance
        self._prompt_tokens = prompt_tokens

    @property
    def tells(self) -> bool:
        """How likely each token was."""
        return self._taste.logprobs is not None

    def __call__(self, input_ids: Tensor, scores: Tensor) -> Tensor:
        raw = scores[0].float()
        weighed = self._weighed(raw.clone(), input_ids[0])
        if self._form is not None:
            weighed = self._form.only(weighed)
        token = int(self._pick(weighed))
        if self._form is not None:
            self._form.came(token)
        self.chosen = self._told(token, raw)
        only = torch.full_like(scores, -torch.inf)
        only[0, token] = 0
        return only

    def _weighed(self, scores: Tensor, tokens: Tensor) -> Tensor:
        taste = self._taste
        if taste.repetition != 1.0:
            seen = tokens.unique()
            had = scores[seen]
            scores[seen] = torch.where(had > 0, had / taste.repetition, had * taste.repetition)
        if taste.frequency or taste.presence:
            seen, counts = tokens[self._prompt_tokens :].unique(return_counts=True)
            scores[seen] -= taste.frequency * counts + taste.presence
        for token, value in taste.bias.items():
            if token < len(scores):
                scores[token] = -torch.inf if value <= _BANNED else scores[token] + value
        for token in taste.ends:
            scores[token] = -torch.inf
        return scores

    def _pick(self, scores: Tensor) -> Tensor:
        taste = self._taste
        if taste.temperature <= 0 or taste.top_k == 1:
            return scores.argmax()
        scores = scores / taste.temperature
        order = None
        if 0 < taste.top_k < len(scores):
            scores, order = scores.topk(taste.top_k)
        shares = scores.softmax(-1)
        if taste.min_p > 0:
            shares = shares.masked_fill(shares < taste.min_p * shares.max(), 0)
        if taste.top_p < 1:
            down, places = shares.sort(descending=True)
            before = down.cumsum(-1) - down
            # The first always stays: before it there is nothing.
            shares = shares.scatter(
                0, places, down.masked_fill(before > taste.top_p * down.sum(), 0)
            )
        place = torch.multinomial(shares, 1, generator=self._chance)[0]
        return place if order is None else order[place]

    def _told(self, token: int, raw: Tensor) -> Chosen:
        if self._taste.logprobs is None:
            return Chosen(token)
        logs = raw.log_softmax(-1)
        best = logs.topk(min(self._taste.logprobs, len(logs)))
        others = zip(best.indices.tolist(), best.values.tolist(), strict=True)
        return Chosen(token, float(logs[token]), tuple(others))
