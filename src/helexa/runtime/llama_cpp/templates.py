"""What llama.cpp's server can do with a model, as its chat template tells before it runs.

The server has a parser for each family of templates. Most hold an answer to a schema; some
leave one out without a word, and then nothing that rests on schemas may be offered.
"""

from __future__ import annotations

import re
from typing import Final

from helexa.runtime.contract import Ability

_THOUGHTS: Final = re.compile(
    r"reasoning_content|<think>|</think>|\[THINK\]|<seed:think>|<mm:think>|<\|START_THINKING\|>|"
    r"<\|channel\|?>|<\|inner_prefix\|>|message\.thinking|message\['thinking'\]"
)
_FORMS: Final = frozenset({Ability.JSON_OBJECT, Ability.JSON_SCHEMA})
_LACKS: Final[tuple[tuple[tuple[str, ...], frozenset[Ability]], ...]] = (
    # Kimi K2 and K3, Functionary 3.2
    (("<|tool_calls_section_begin|>", "<|tool_call_begin|>"), _FORMS | {Ability.TOOL_CHOICE}),
    (("<|open|>", "<|close|>", "<|end_of_msg|>"), _FORMS | {Ability.TOOL_CHOICE}),
    ((">>>all", ">>>${recipient}"), _FORMS | {Ability.TOOL_CHOICE}),
    # GigaChat 3, which writes calls as JSON
    (("<|role_sep|>", "<|message_sep|>", "'function call'"), _FORMS),
    # DeepSeek 3.2 and 4: no schema beside tools
    (("dsml_token", "DSML"), frozenset({Ability.TOOL_CHOICE})),
    # gpt-oss: what a grammar leaves is no message in its channels
    (("<|channel|>", "<|message|>"), frozenset({Ability.GRAMMAR})),
)
"""Marks that tell a template, all of them, and what the parser for it cannot."""


def thinks(template: str) -> bool:
    return _THOUGHTS.search(template) is not None


def writes_calls(template: str) -> bool:
    return "tools" in template and "tool_call" in template


def lacks(template: str) -> frozenset[Ability]:
    found: frozenset[Ability] = frozenset()
    for marks, abilities in _LACKS:
        if all(mark in template for mark in marks):
            found |= abilities
    return found
