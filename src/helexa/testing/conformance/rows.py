"""The rows of the matrix: what a runtime may offer, and what each has to keep.

`asks` is a request that wants what the row names. Where a replica does not declare it, that
request is what must be refused.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final

from helexa.protocol.work import WorkloadClass
from helexa.runtime.contract import Ability, Capabilities, Endpoint

Asks = tuple[Endpoint, Mapping[str, Any]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    word: str
    says: str
    """For the docs."""
    declared: Callable[[Capabilities], bool] | None = None
    """None for what every runtime is held to."""
    asks: Asks | None = None
    may_lack: bool = False
    """A plain property that an engine may refuse as if it were an ability."""
    for_class: WorkloadClass | None = WorkloadClass.CHAT_INTERACTIVE
    """The cases make requests of this kind."""
    ends_engine: bool = False
    """Its cases unload or kill it, so the others come first."""


USER: Final = [{"role": "user", "content": "hi"}]
PIXEL: Final = (
    "data:image/png;base64,iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9"
    "awAAAABJRU5ErkJggg=="
)
TOOL: Final = {
    "type": "function",
    "function": {
        "name": "get_weather",
        "description": "Get the weather",
        "parameters": {
            "type": "object",
            "properties": {"city": {"type": "string"}},
            "required": ["city"],
        },
    },
}
SCHEMA: Final = {
    "type": "object",
    "properties": {"kind": {"enum": ["neuron", "cortex"]}, "ok": {"type": "boolean"}},
    "required": ["kind", "ok"],
    "additionalProperties": False,
}


def _chat(**more: Any) -> Asks:
    return Endpoint.CHAT, {"messages": USER, "max_tokens": 4, **more}


def _work(word: str, says: str, needed: WorkloadClass, asks: Asks) -> Row:
    return Row(
        word=word,
        says=says,
        declared=lambda offered: needed in offered.classes,
        asks=asks,
        for_class=needed,
    )


def _plain(word: str, says: str, *, may_lack: bool = False) -> Row:
    return Row(word=word, says=says, may_lack=may_lack)


def _ability(
    ability: Ability,
    says: str,
    asks: Asks | None,
    for_class: WorkloadClass = WorkloadClass.CHAT_INTERACTIVE,
    *,
    ends_engine: bool = False,
) -> Row:
    return Row(
        word=ability.value,
        says=says,
        declared=lambda offered: ability in offered.abilities,
        asks=asks,
        for_class=for_class,
        ends_engine=ends_engine,
    )


_SEEN: Final = [{"type": "image_url", "image_url": {"url": PIXEL}}]
CHAT: Final = _work("chat", "chat", WorkloadClass.CHAT_INTERACTIVE, _chat())
TEXT: Final = _work(
    "completion",
    "text completions",
    WorkloadClass.COMPLETION,
    (Endpoint.COMPLETIONS, {"prompt": "helexa is", "max_tokens": 4}),
)
EMBEDDING: Final = _work(
    "embedding", "embeddings", WorkloadClass.EMBEDDING, (Endpoint.EMBEDDINGS, {"input": "hi"})
)
RERANK: Final = _work(
    "rerank",
    "reranking",
    WorkloadClass.RERANK,
    (Endpoint.RERANK, {"query": "hi", "documents": ["a", "b"]}),
)
VISION: Final = _work(
    "vision",
    "pictures in chats",
    WorkloadClass.VISION,
    _chat(messages=[{"role": "user", "content": _SEEN}]),
)

STREAMS: Final = _plain("streams", "answers are streamed as they are made")
WHOLE_CHARACTERS: Final = _plain("whole_characters", "whole characters only, also in a stream")
MAX_TOKENS: Final = _plain("max_tokens", "stops at `max_tokens`")
STOP: Final = _plain("stop", "stop strings", may_lack=True)
CONTEXT: Final = _plain("context_limit", "too long a prompt is a 400 with the numbers")
USAGE: Final = _plain("usage", "usage adds up, streamed and whole")
CANCEL: Final = _plain("cancel", "a client that leaves frees the engine")
CONCURRENCY: Final = _plain("concurrency", "requests at once do not mix")
UNKNOWN_MODEL: Final = Row(
    word="unknown_model", says="an unknown model is a 404 that names it", for_class=None
)
LOADS_AGAIN: Final = Row(
    word="loads_again",
    says="unloaded, it leaves no process; loads again",
    for_class=None,
    ends_engine=True,
)
COMES_BACK: Final = Row(
    word="comes_back", says="a killed engine is started again", for_class=None, ends_engine=True
)
LOAD_REPORT: Final = _plain("load_report", "says how busy it is", may_lack=True)

TOOLS: Final = _ability(Ability.TOOLS, "tools, `tool_choice` auto", _chat(tools=[TOOL]))
TOOL_CHOICE: Final = _ability(
    Ability.TOOL_CHOICE,
    "`tool_choice` required or by name",
    _chat(tools=[TOOL], tool_choice="required"),
)
PARALLEL_TOOLS: Final = _ability(Ability.PARALLEL_TOOLS, "several calls in one answer", None)
JSON_OBJECT: Final = _ability(
    Ability.JSON_OBJECT,
    "`response_format` json_object",
    _chat(response_format={"type": "json_object"}),
)
JSON_SCHEMA: Final = _ability(
    Ability.JSON_SCHEMA,
    "`response_format` json_schema, sure to hold",
    _chat(
        response_format={
            "type": "json_schema",
            "json_schema": {"name": "fact", "schema": SCHEMA, "strict": True},
        }
    ),
)
GRAMMAR: Final = _ability(
    Ability.GRAMMAR, "`grammar` in the engine's notation", _chat(grammar='root ::= "yes" | "no"')
)
REASONING: Final = _ability(Ability.REASONING, "thoughts apart, as `reasoning_content`", None)
LOGPROBS: Final = _ability(Ability.LOGPROBS, "`logprobs`", _chat(logprobs=True, top_logprobs=2))
CHOICES: Final = _ability(Ability.CHOICES, "`n` above 1", _chat(n=2))
SEED: Final = _ability(Ability.SEED, "`seed`", _chat(seed=1))
PENALTIES: Final = _ability(
    Ability.PENALTIES, "frequency and presence penalties", _chat(frequency_penalty=1.5)
)
LOGIT_BIAS: Final = _ability(Ability.LOGIT_BIAS, "`logit_bias`", _chat(logit_bias={"5": 50}))
DETERMINISTIC: Final = _ability(
    Ability.DETERMINISTIC,
    "`deterministic`: the same in company as alone",
    None,
    ends_engine=True,
)
DIMENSIONS: Final = _ability(
    Ability.DIMENSIONS,
    "shorter vectors on request",
    (Endpoint.EMBEDDINGS, {"input": "hi", "dimensions": 8}),
    WorkloadClass.EMBEDDING,
)
CONTINUE_TEXT: Final = _ability(
    Ability.CONTINUE_TEXT,
    "goes on with a message of the assistant's",
    _chat(
        messages=[*USER, {"role": "assistant", "content": "Hel"}],
        continue_final_message=True,
        add_generation_prompt=False,
    ),
)
CONTINUE_IDS: Final = _ability(
    Ability.CONTINUE_IDS,
    "goes on with token ids",
    (Endpoint.COMPLETIONS, {"prompt": [5, 6, 7], "max_tokens": 4}),
    WorkloadClass.COMPLETION,
)

ROWS: Final = (
    CHAT,
    TEXT,
    EMBEDDING,
    RERANK,
    VISION,
    STREAMS,
    WHOLE_CHARACTERS,
    MAX_TOKENS,
    STOP,
    CONTEXT,
    USAGE,
    CANCEL,
    CONCURRENCY,
    UNKNOWN_MODEL,
    LOADS_AGAIN,
    COMES_BACK,
    LOAD_REPORT,
    TOOLS,
    TOOL_CHOICE,
    PARALLEL_TOOLS,
    JSON_OBJECT,
    JSON_SCHEMA,
    GRAMMAR,
    REASONING,
    LOGPROBS,
    CHOICES,
    SEED,
    PENALTIES,
    LOGIT_BIAS,
    DETERMINISTIC,
    DIMENSIONS,
    CONTINUE_TEXT,
    CONTINUE_IDS,
)
