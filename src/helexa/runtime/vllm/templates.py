"""Which of vLLM's parsers reads a model's calls and thoughts, by the model's own chat template.

vLLM does not find out by itself: without a parser a call is text, and with the wrong one
a call is lost or every answer is taken for a thought. The template shows how calls are
written, since it has to write earlier ones into the prompt. What is not recognised here
is not offered; an operator who knows better names the parser in `arguments`.
"""

from __future__ import annotations

from typing import Final

_DEEPSEEK: Final = "tool\u2581calls\u2581begin"
_TOOLS: Final[tuple[tuple[tuple[str, ...], str], ...]] = (
    (("<tool_call>", "<arg_key>"), "glm45"),
    (("<tool_call>", "<function="), "qwen3_coder"),
    (("<tool_call>", '"name"'), "hermes"),
    ((_DEEPSEEK, "json"), "deepseek_v3"),
    ((_DEEPSEEK,), "deepseek_v31"),
    (("<|tool_calls_section_begin|>",), "kimi_k2"),
    (("<minimax:tool_call>",), "minimax_m2"),
    (("<seed:tool_call>",), "seed_oss"),
    (("<|tool_call_start|>",), "lfm2"),
    (("<start_function_call>",), "functiongemma"),
    (("[TOOL_CALLS]",), "mistral"),
    (("<|python_start|>",), "llama4_pythonic"),
    (("<|python_tag|>",), "llama3_json"),
    (("<|channel|>", "commentary"), "openai"),
)
"""The first whose marks are all there. Those with more marks stand before those with fewer."""
_ASKS: Final = "add_generation_prompt"


def tool_parser(template: str) -> str:
    """Empty where the template takes no tools, or writes calls in a way that is not known."""
    if "tools" not in template:
        return ""
    for marks, parser in _TOOLS:
        if all(mark in template for mark in marks):
            return parser
    return ""


def reasoning_parser(template: str) -> str:
    """Empty where the model is not made to think, as far as its template shows.

    Templates of models that never think may name the mark as well, to take thoughts out of
    earlier turns; a parser would then hold each whole answer for a thought.
    """
    if "<|channel|>analysis" in template:
        return "openai_gptoss"
    if "[THINK]" in template:
        return "mistral"
    begun = template.rpartition(_ASKS)[2]
    if "<seed:think>" in template:
        return "seed_oss"
    if "<think>" not in begun:
        return ""
    if "<arg_key>" in template:
        return "glm45"
    return "qwen3" if "enable_thinking" in template else "deepseek_r1"
