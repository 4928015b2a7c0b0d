"""mistral.rs (the mistralrs package), which is an engine in a process and no server of its own.

What was learnt of it shapes this file (0.9.5, on a processor):

- Its parsers get tool calls, thoughts and the first space of an answer wrong, and completions
  are neither streamed nor ended. So it is only ever given a prompt that is ready, through the
  one door that streams (see `mistral_rs_prompts`), and what it says is read off the bytes of
  its tokens, which come along with their probabilities.
- Prompts of several requests computed in one step fail for quantised weights, so one at a time
  is let in until its first token is there; after that they are computed together, rightly.
- A call into it while another thread is inside raises "Already borrowed".
- A stream that is dropped ends its generation at the next token.
"""

from __future__ import annotations

import re
import threading
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from . import mistral_rs_asking as asking
from .mistral_rs_prompts import Prompts
from .mistral_rs_reading import Reading
from .server.engine import (
    CHAT,
    COMPLETIONS,
    Counts,
    Generation,
    Piece,
    Refused,
    Tokens,
    TooLong,
    Unloadable,
)
from .server.markup import CALL

_SHARD = re.compile(r"(.*)-00001-of-(\d{5})\.gguf")
_LOOK_EVERY_S = 0.05


class MistralRs:
    def __init__(self, wanted: Mapping[str, Any]) -> None:
        self.honours: dict[str, Collection[str]] = {COMPLETIONS: asking.TEXT}
        if wanted["template"]:
            self.honours[CHAT] = asking.CHAT_WITH_TOOLS if wanted["tools"] else asking.CHAT
        self._wanted = wanted
        self._context = int(wanted["context_tokens"])
        self._borrowed = threading.Lock()
        self._reading = threading.Lock()
        """Held from a request's begin to its first token."""
        self._extra_tokens = 0
        """That the engine puts before a prompt, unseen by its tokenizer's own count."""
        self._is_token = False
        """Whether `<tool_call>` is one token, which grammars name differently."""
        self._special: dict[str, bool] = {}
        self._engine: Any
        self._runner: Any
        self._prompts: Prompts

    def load(self) -> None:
        import mistralrs  # only this process needs it, and its absence is told in one line

        self._engine = mistralrs
        wanted = self._wanted
        self._prompts = Prompts(Path(wanted["scratch"]) / "template.jinja", wanted["template"])
        try:
            self._runner = mistralrs.Runner(
                which=self._which(),
                max_seqs=wanted["at_once"],
                prefix_cache_n=wanted["prefixes"],
                jinja_explicit=str(self._prompts.path),
                **wanted["more"],
            )
            self._warm_up()
        except ValueError as error:
            raise Unloadable(_first_line(error)) from error

    def _which(self) -> Any:
        weights = Path(self._wanted["weights"])
        if self._wanted["format"] == "safetensors":
            return self._engine.Which.Plain(model_id=str(weights))
        names: str | list[str] = weights.name
        if shard := _SHARD.fullmatch(weights.name):
            count = int(shard[2])
            names = [f"{shard[1]}-{at:05}-of-{shard[2]}.gguf" for at in range(1, count + 1)]
        return self._engine.Which.GGUF(
            quantized_model_id=str(weights.parent), quantized_filename=names
        )

    def _warm_up(self) -> None:
        """The first request takes long; and it tells what is counted besides the text."""
        text = "a"
        *_, last = self._runner.send_chat_completion_request(self._request(text, 1, {}))
        self._extra_tokens = last.usage.prompt_tokens - len(self._tokens(text))
        marker = self._runner.tokenize_text(CALL, False, None)
        self._is_token = len(marker) == 1

    def generate(self, request: Generation) -> Iterator[Piece]:
        prompt = self._prompt(request)
        count = len(self._tokens(prompt)) + self._extra_tokens
        room = self._context - count
        if room < 1:
            raise TooLong(count, self._context)
        limit = min(request.max_tokens or room, room)
        told = Counts(prompt=count, completion=0)
        thinks = request.is_chat and self._wanted["thinks"]
        for choice in range(request.n):
            reading = Reading(
                request,
                choice,
                told,
                opened=prompt.rstrip().endswith("<think>") if thinks else None,
                is_token=self._is_token,
                is_special=self._is_special,
            )
            for chunk in self._chunks(request, prompt, limit):
                for piece in reading.feed(chunk):
                    told = piece.counts or told
                    yield piece
                if reading.is_over:
                    break

    def tokens_of_text(self, text: str, *, special: bool) -> Tokens:
        with self._borrowed:
            ids = self._runner.tokenize_text(text, special, None)
        return self._counted(ids, special=special)

    def tokens_of_chat(self, request: Generation) -> Tokens:
        return self._counted(self._tokens(self._prompt(request)), special=True)

    def text_of(self, ids: Sequence[int]) -> str:
        try:
            with self._borrowed:
                return str(self._runner.detokenize_text(list(ids), False))
        except (ValueError, OverflowError) as error:
            raise Refused(
                f"These are no tokens: {_first_line(error)}"[:300], param="tokens"
            ) from error

    def _counted(self, ids: Sequence[int], *, special: bool) -> Tokens:
        extra = self._extra_tokens if special else 0
        # Those that the engine adds by itself are known by their number alone.
        return Tokens(len(ids) + extra, () if extra else ids)

    def _prompt(self, request: Generation) -> str:
        if not request.is_chat:
            if not request.prompt:
                raise Refused("`prompt` is empty.", param="prompt")
            return str(request.prompt)
        said = request.fields
        tools = said.get("tools") if said.get("tool_choice") != "none" else None
        asked = self._prompts.question(
            request.messages,
            tools,
            kwargs=said.get("chat_template_kwargs", {}),
            opens=said.get("add_generation_prompt", True),
            continues=said.get("continue_final_message", False),
        )
        try:
            with self._borrowed:
                self._runner.send_chat_completion_request(self._asking(max_tokens=1, **asked))
        except ValueError as error:
            return self._prompts.answer(str(error))
        raise RuntimeError("the template was not asked")

    def _tokens(self, text: str) -> Sequence[int]:
        with self._borrowed:
            tokens: Sequence[int] = self._runner.tokenize_text(text, True, None)
            return tokens

    def _chunks(self, request: Generation, prompt: str, limit: int) -> Iterator[Any]:
        with self._admitted(request) as is_admitted:
            if not is_admitted:
                return
            try:
                with self._borrowed:
                    stream = self._runner.send_chat_completion_request(
                        self._request(prompt, limit, asking.of(request, is_token=self._is_token))
                    )
                first = next(stream)
            except ValueError as error:
                raise _meaning(error, request.fields) from error
        yield first
        del first
        yield from stream

    @contextmanager
    def _admitted(self, request: Generation) -> Iterator[bool]:
        while not self._reading.acquire(timeout=_LOOK_EVERY_S):
            if request.cancelled.is_set():
                yield False
                return
        try:
            yield True
        finally:
            self._reading.release()

    def _request(self, prompt: str, limit: int, more: Mapping[str, Any]) -> Any:
        messages = self._prompts.ready(prompt)
        return self._asking(messages=messages, max_tokens=limit, stream=True, logprobs=True, **more)

    def _asking(self, **members: Any) -> Any:
        # Tools, where there are some, are for the template; calls are ours to read and to force.
        never = self._engine.ToolChoice.NoTools
        return self._engine.ChatCompletionRequest(model="default", tool_choice=never, **members)

    def _is_special(self, text: str) -> bool:
        known = self._special.get(text)
        if known is None:
            with self._borrowed:
                tokens = self._runner.tokenize_text(text, False, None)
                known = len(tokens) == 1 and not self._runner.detokenize_text(tokens, True)
            self._special[text] = known
        return known


def _meaning(error: ValueError, said: Mapping[str, Any]) -> Exception:
    words = _first_line(error)
    if "grammar" in words.lower() or "Parser Error" in words:
        # It is a grammar to the engine whatever a client called it; and ends with marks of its own.
        field = next((name for name in ("grammar", "response_format") if said.get(name)), "tools")
        shown = " ".join(re.sub(r"NoExtensionBias|</?grammar>", " ", words).split())
        return Refused(f"`{field}` cannot be followed: {shown}"[:400], param=field)
    return error


def _first_line(error: BaseException) -> str:
    """Without the trace that it puts behind."""
    return str(error).strip().split("\n   0:", 1)[0]


def engine(wanted: Mapping[str, Any]) -> MistralRs:
    return MistralRs(wanted)
