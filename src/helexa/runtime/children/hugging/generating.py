"""A request for text to its pieces: prompt, tokens, words, thoughts, calls, counts."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from transformers import GenerationConfig

from ..server.engine import Counts, Generation, Piece, Refused, Tokens, TooLong
from . import prompts
from .choosing import Chooser, Chosen, Taste
from .decoding import Decoding
from .forms import Forms
from .loading import Loaded
from .marks import CALL, CALLED, THINK, THOUGHT, Marks
from .spelling import bytes_of
from .turns import Turns
from .words import Words

_USUAL = ("temperature", "top_p", "top_k", "min_p", "repetition_penalty")


@dataclass(frozen=True)
class _Prompt:
    inputs: Mapping[str, Tensor]
    is_thinking: bool = False
    """It ends where a thought begins."""

    @property
    def tokens(self) -> int:
        return int(self.inputs["input_ids"].shape[1])


@dataclass
class _Tally:
    prompt: int
    completion: int = 0
    reasoning: int = 0

    def counts(self) -> Counts:
        return Counts(self.prompt, self.completion, reasoning=self.reasoning)


class Generating:
    def __init__(self, loaded: Loaded, turns: Turns, wanted: Mapping[str, Any]) -> None:
        self._loaded = loaded
        self._turns = turns
        self._context: int = wanted["context"]
        self._sees: bool = wanted["kind"] == "vision"
        self._thinks: bool = wanted["reasoning"]
        usual = loaded.model.generation_config
        self._ends = _ends(usual, loaded.tokenizer)
        self._usual = _usual(usual)
        words = loaded.model.get_input_embeddings().weight.shape[0]
        self._forms = Forms(loaded.tokenizer, words, sorted(self._ends))
        # A space, or the byte of a line's end, as byte-level tokenizers spell them.
        spelt = loaded.tokenizer.get_vocab()
        self._spells_bytes = "\u0120" in spelt or "\u010a" in spelt
        self._pad = loaded.tokenizer.pad_token_id
        if self._pad is None:
            self._pad = min(self._ends, default=0)
        # What a model's files recommend would be taken for what a client asked for.
        loaded.model.generation_config = GenerationConfig()
        keep = {CALL, CALLED, THINK, THOUGHT}
        special = zip(
            loaded.tokenizer.all_special_ids, loaded.tokenizer.all_special_tokens, strict=True
        )
        self._hidden = {at for at, token in special if token not in keep} | self._ends

    def pieces(self, request: Generation) -> Iterator[Piece]:
        prompt = self._chat(request) if request.is_chat else self._text(request)
        room = self._context - prompt.tokens
        if room < 1:
            raise TooLong(prompt.tokens, self._context)
        limit = min(request.max_tokens or room, room)
        grammar = self._forms.wanted(request.fields)
        taste = Taste.of(request.fields, self._usual, self._ends)
        chance = self._chance(request.fields.get("seed"))
        tally = _Tally(prompt.tokens)
        for choice in range(request.n):
            form = self._forms.made(grammar) if grammar else None
            chooser = Chooser(taste, chance, prompt.tokens, form)
            yield from self._choice(request, prompt, limit, chooser, tally, choice)

    def tokens_of_text(self, text: str, *, special: bool) -> Tokens:
        read = self._loaded.tokenizer(text, add_special_tokens=special, truncation=False)
        return self._spelt(read["input_ids"])

    def tokens_of_chat(self, request: Generation) -> Tokens:
        prompt = self._chat(request)
        if set(prompt.inputs) - {"input_ids", "attention_mask"}:
            # Pictures: what stands for them among the ids is none of their own.
            return Tokens(prompt.tokens)
        return self._spelt(prompt.inputs["input_ids"][0].tolist())

    def text_of(self, ids: Sequence[int]) -> str:
        most = self._loaded.model.get_input_embeddings().weight.shape[0]
        if any(one >= most for one in ids):
            raise Refused(f"This model has {most} tokens.", param="tokens")
        return self._decoded(ids)

    def _spelt(self, ids: Sequence[int]) -> Tokens:
        added = self._loaded.tokenizer.get_added_vocab()
        words = self._loaded.tokenizer.convert_ids_to_tokens(list(ids))
        pieces = [
            bytes_of(word or "", by_bytes=self._spells_bytes, is_added=word in added)
            for word in words
        ]
        return Tokens(len(ids), list(ids), pieces)

    def _choice(
        self,
        request: Generation,
        prompt: _Prompt,
        limit: int,
        chooser: Chooser,
        tally: _Tally,
        choice: int,
    ) -> Iterator[Piece]:
        words = Words(self._decoded)
        marks = Marks(
            thoughts=request.is_chat and self._thinks,
            calls=request.is_chat and bool(prompts.tools(request.fields)),
            is_thinking=prompt.is_thinking,
        )
        alone = request.fields.get("parallel_tool_calls") is False
        config = GenerationConfig(
            max_new_tokens=limit,
            do_sample=False,
            eos_token_id=sorted(self._ends) or None,
            pad_token_id=self._pad,
        )
        tokens = Decoding(self._turns, chooser).run(self._loaded.model, prompt.inputs, config)
        finish = "length"
        try:
            for chosen in tokens:
                tally.completion += 1
                tally.reasoning += marks.is_thinking
                if chosen.token in self._ends:
                    finish = "stop"
                    break
                found = marks.feed("" if chosen.token in self._hidden else words.feed(chosen.token))
                yield Piece(
                    text=found.text,
                    choice=choice,
                    thought=found.thought,
                    calls=found.calls[:1] if alone else found.calls,
                    logprobs=self._logprobs(chosen) if chooser.tells else (),
                    counts=tally.counts(),
                )
                if alone and marks.called:
                    finish = "stop"
                    break
        finally:
            tokens.close()
        was_called = marks.called
        left, last = marks.feed(words.end()), marks.end()
        calls = [*left.calls, *last.calls]
        yield Piece(
            text=left.text + last.text,
            choice=choice,
            thought=left.thought + last.thought,
            calls=calls[: 1 - was_called] if alone else calls,
            finish="tool_calls" if marks.called and finish == "stop" else finish,
            counts=tally.counts(),
        )

    def _chat(self, request: Generation) -> _Prompt:
        source = self._loaded.processor or self._loaded.tokenizer
        template = getattr(source, "chat_template", None) or ""
        talk = prompts.conversation(
            request.messages, template if isinstance(template, str) else "", sees=self._sees
        )
        text = prompts.rendered(source, talk, request.fields)
        pictures = prompts.pictures(request.messages) if self._sees else []
        is_thinking = text.rstrip().endswith(THINK)
        if not pictures:
            return _Prompt(self._read(text), is_thinking)
        try:
            found = self._loaded.processor(
                text=[text], images=pictures, add_special_tokens=False, return_tensors="pt"
            )
        except (ValueError, IndexError, StopIteration) as error:
            words = f"The pictures do not fit the text: {error}"
            raise Refused(words[:300], param="messages") from error
        dtype = self._loaded.model.dtype
        placed = {
            name: one.to(self._loaded.device, dtype if one.is_floating_point() else None)
            for name, one in found.items()
        }
        return _Prompt(placed, is_thinking)

    def _text(self, request: Generation) -> _Prompt:
        if isinstance(request.prompt, str):
            return _Prompt(self._read(request.prompt, special=True))
        most = self._loaded.model.get_input_embeddings().weight.shape[0]
        if any(token >= most for token in request.prompt):
            raise Refused(f"This model has {most} tokens.", param="prompt")
        return _Prompt(self._inputs(request.prompt))

    def _read(self, text: str, *, special: bool = False) -> Mapping[str, Tensor]:
        """A template writes the special tokens itself."""
        found = self._loaded.tokenizer(text, add_special_tokens=special, truncation=False)
        return self._inputs(found["input_ids"])

    def _inputs(self, tokens: Sequence[int]) -> Mapping[str, Tensor]:
        if not tokens:
            raise Refused("The prompt is empty.")
        ids = torch.tensor([list(tokens)], device=self._loaded.device)
        return {"input_ids": ids, "attention_mask": torch.ones_like(ids)}

    def _chance(self, seed: int | None) -> torch.Generator:
        chance = torch.Generator(self._loaded.device)
        if seed is None:
            chance.seed()
        else:
            chance.manual_seed(seed % (1 << 63))
        return chance

    def _decoded(self, tokens: Sequence[int]) -> str:
        return str(
            self._loaded.tokenizer.decode(
                tokens, skip_special_tokens=False, clean_up_tokenization_spaces=False
            )
        )

    def _logprobs(self, chosen: Chosen) -> list[dict[str, Any]]:
        told = self._told(chosen.token, chosen.logprob)
        return [{**told, "top_logprobs": [self._told(*one) for one in chosen.others]}]

    def _told(self, token: int, logprob: float) -> dict[str, Any]:
        text = self._decoded([token])
        return {"token": text, "logprob": logprob, "bytes": list(text.encode())}


def _ends(config: Any, tokenizer: Any) -> frozenset[int]:
    said = config.eos_token_id
    ends = [said] if isinstance(said, int) else list(said or ())
    if tokenizer.eos_token_id is not None:
        ends.append(tokenizer.eos_token_id)
    return frozenset(ends)


def _usual(config: Any) -> dict[str, Any]:
    """What a client gets that asks for nothing: as the model's makers recommend."""
    if config.do_sample is False:
        return {"temperature": 0.0}
    said = {name: getattr(config, name, None) for name in _USUAL}
    return {name: value for name, value in said.items() if value is not None}
