"""Answers of a given form: which tokens may come next, so that nothing else can be said.

llguidance reads JSON schemas and Lark grammars, and tells after every token which may
follow. What it says holds for every choice of the sampler, so a form is kept whatever
the temperature.
"""

from __future__ import annotations

import json
import threading
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from llguidance import LLMatcher, gbnf_to_lark
from llguidance.hf import from_tokenizer
from torch import Tensor

from ..server.engine import Refused
from .marks import CALL, CALLED

# As models learnt to write JSON: space that may go on for ever would be written for ever.
_WRITING = {"whitespace_flexible": False, "item_separator": ", ", "key_separator": ": "}
_ANYTHING = {"type": "object"}


class Form:
    """Of one choice of one answer."""

    def __init__(self, matcher: LLMatcher) -> None:
        self._matcher = matcher

    def only(self, scores: Tensor) -> Tensor:
        """The scores of what may come next; all others have no chance."""
        mask = self._matcher.compute_bitmask()
        if self._matcher.is_error():
            # It would let the answer end there, and half a form would look like a whole one.
            words = " ".join(self._matcher.get_error().partition("<state>")[0].split())
            raise Refused(f"The form that was asked for cannot be kept: {words}"[:300])
        packed = torch.frombuffer(bytearray(mask), dtype=torch.uint8)
        bits = (packed[:, None] >> torch.arange(8, dtype=torch.uint8)) & 1
        allowed = torch.zeros(len(scores), dtype=torch.bool)
        known = bits.flatten()[: len(scores)]
        allowed[: len(known)] = known.bool()
        return scores.masked_fill(~allowed.to(scores.device), -torch.inf)

    def came(self, token: int) -> None:
        if not self._matcher.consume_token(token):
            raise RuntimeError(f"the form was left: {self._matcher.get_error()}")


class Forms:
    def __init__(self, tokenizer: Any, vocabulary: int, ends: Sequence[int]) -> None:
        self._tokenizer = tokenizer
        self._vocabulary = vocabulary
        self._ends = list(ends)
        self._guard = threading.Lock()
        self._tokens: Any = None

    def wanted(self, said: Mapping[str, Any]) -> str:
        """The grammar that a request asks for; empty where it asks for none. Raises Refused."""
        choice = said.get("tool_choice", "auto")
        forced = bool(said.get("tools")) and choice not in ("auto", "none")
        asked = said.get("response_format", {"type": "text"})
        if said.get("grammar"):
            if forced:
                raise Refused("A `grammar` leaves no room for calls.", param="grammar")
            return self._sound(_lark(said["grammar"]), "grammar")
        if forced:
            alone = said.get("parallel_tool_calls") is False or isinstance(choice, dict)
            return self._sound(self._calls(said["tools"], choice, alone=alone), "tools")
        if asked["type"] == "text":
            return ""
        inner = asked.get("json_schema", {})
        schema = inner.get("schema", _ANYTHING) if asked["type"] == "json_schema" else _ANYTHING
        return self._sound(f"start: %json {_schema(schema)}", "response_format")

    def made(self, grammar: str) -> Form:
        return Form(LLMatcher(self._known(), grammar))

    def _calls(self, tools: Sequence[Any], choice: Any, *, alone: bool) -> str:
        functions = [tool["function"] for tool in tools]
        if isinstance(choice, dict):
            name = choice["function"]["name"]
            functions = [one for one in functions if one["name"] == name]
            if not functions:
                raise Refused(f"There is no tool {name[:80]!r}.", param="tool_choice")
        calls = " | ".join(f"%json {_schema(_call(one))}" for one in functions)
        more = "" if alone else ' ("\\n" block)*'
        return (
            f"start: block{more}\n"
            f'block: {self._mark(CALL)} "\\n" call "\\n" {self._mark(CALLED)}\n'
            f"call: {calls}"
        )

    def _mark(self, mark: str) -> str:
        """As one token, where it is one: its letters one by one would be another text to it."""
        tokens = self._tokenizer(mark, add_special_tokens=False)["input_ids"]
        return f"<[{tokens[0]}]>" if len(tokens) == 1 else json.dumps(mark)

    def _sound(self, grammar: str, field: str) -> str:
        made = LLMatcher.grammar_from_lark(grammar)
        if error := LLMatcher.validate_grammar(made, self._known()):
            words = " ".join(error.split())
            raise Refused(f"`{field}` cannot be followed: {words}"[:400], param=field)
        return str(made)

    def _known(self) -> Any:
        # It takes a second for a large vocabulary, and most requests want no form.
        with self._guard:
            if self._tokens is None:
                self._tokens = from_tokenizer(
                    self._tokenizer, n_vocab=self._vocabulary, eos_token=self._ends or None
                )
            return self._tokens


def _schema(schema: Mapping[str, Any]) -> str:
    return json.dumps({**schema, "x-guidance": _WRITING})


def _call(function: Mapping[str, Any]) -> dict[str, Any]:
    arguments = function.get("parameters") or _ANYTHING
    return {
        "type": "object",
        "properties": {"name": {"const": function["name"]}, "arguments": arguments},
        "required": ["name", "arguments"],
        "additionalProperties": False,
    }


def _lark(text: str) -> str:
    """llama.cpp's notation is taken, too."""
    if "::=" not in text:
        return text
    try:
        return str(gbnf_to_lark.any_to_lark(text))
    except gbnf_to_lark.GbnfToLarkError as error:
        raise Refused(f"`grammar` cannot be read: {error}"[:400], param="grammar") from error
