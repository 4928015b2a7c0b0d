"""Where a request to vLLM differs from what clients write, and its answer from what they read.

vLLM leaves out in silence what it does not know, and knows much that reaches beyond one
request: other machines' caches, files, URLs, ids that two clients may share. The first is
translated or refused, the second is refused.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Final

import msgspec

from helexa.protocol.errors import BodyMalformed, RequestRejected, RuntimeRefused
from helexa.protocol.openai import body as bodies
from helexa.runtime.contract import Ability, ReplicaSpec, Rewrite
from helexa.runtime.openai import abilities, efforts, structure, tools
from helexa.runtime.vllm import refusal, templates

_BEYOND: Final = (
    "ec_transfer_params",
    "kv_transfer_params",
    "media_io_kwargs",
    "mm_processor_kwargs",
    "prompt_embeds",
    "request_id",
    "vllm_xargs",
)
_PARTS: Final = frozenset({"text", "image_url", "refusal", "thinking", "input_text", "output_text"})
"""Of a message. Others name files and URLs that the engine would fetch by itself."""


class _Message(msgspec.Struct):
    content: str | list[dict[str, msgspec.Raw]] | None = None


class _Chat(msgspec.Struct):
    messages: list[_Message]


_chat: Final = msgspec.json.Decoder(_Chat)


def check(body: bytes, raw: bodies.Fields, images_max: int) -> None:
    """Raises a 400 for what would reach beyond this request, or be left out in silence."""
    for name in _BEYOND:
        if bodies.value(raw, name, Any) is not None:
            raise RequestRejected(reason=f"`{name}` is not taken here.", field=name)
    if "messages" in raw:
        _check_parts(bodies.typed(_chat, body).messages, images_max)


def changes(raw: bodies.Fields, spec: ReplicaSpec) -> dict[str, Any]:
    """Members to put in place of the client's; `grammar` is taken out of `raw`."""
    found: dict[str, Any] = {}
    _check_effort(raw, spec)
    if (grammar := bodies.value(raw, "grammar", str)) is not None:
        for other in ("response_format", "structured_outputs"):
            if bodies.value(raw, other, Any) is not None:
                raise BodyMalformed(
                    reason=f"`grammar` and `{other}` exclude one another.", field="grammar"
                )
        found["structured_outputs"] = {"grammar": grammar}
    raw.pop("grammar", None)
    if bodies.value(raw, "continue_final_message", bool) and "add_generation_prompt" not in raw:
        found["add_generation_prompt"] = False
    wish = tools.read(raw)
    if wish is not None and wish.allows_some:
        found["tools"] = [one.raw for one in wish.tools]
        found["tool_choice"] = wish.choice
    form = structure.read(raw)
    if form is not None and form.kind == "json_schema" and form.where == "response_format.schema":
        named = {"name": "answer", "schema": form.schema}
        found["response_format"] = {"type": "json_schema", "json_schema": named}
    return found


def _check_effort(raw: bodies.Fields, spec: ReplicaSpec) -> None:
    """It hands the effort to the template, and does not mind one that takes no notice."""
    effort = efforts.read(raw, spec, runtime=refusal.NAME)
    template = spec.files.chat_template
    if effort is None or "reasoning_effort" in template:
        return
    if templates.reasoning_parser(template) and "enable_thinking" not in template:
        said = "answers without thoughts"
        raise abilities.missing(said, "reasoning_effort", spec, refusal.NAME)


def rewriting(able: frozenset[Ability]) -> Callable[[], Rewrite] | None:
    return _Thoughts if Ability.REASONING in able else None


class _Thoughts:
    """`reasoning` becomes `reasoning_content`, the name that clients of other engines know."""

    def event(self, payload: bytes) -> Sequence[bytes]:
        return (self.whole(payload),)

    def end(self) -> Sequence[bytes]:
        return ()

    def whole(self, body: bytes) -> bytes:
        if b'"reasoning"' not in body:
            return body
        try:
            answer = msgspec.json.decode(body, type=dict[str, Any])
        except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
            raise RuntimeRefused(reason="The runtime sent an event that is not JSON.") from error
        for choice in answer.get("choices") or ():
            for part in ("delta", "message"):
                said = choice.get(part)
                if isinstance(said, dict) and "reasoning" in said:
                    said["reasoning_content"] = said.pop("reasoning")
        return msgspec.json.encode(answer)


def _check_parts(messages: Sequence[_Message], images_max: int) -> None:
    images = 0
    for index, message in enumerate(messages):
        parts = message.content if isinstance(message.content, list) else ()
        for at, part in enumerate(parts):
            where = f"messages[{index}].content[{at}]"
            kind = bodies.value(part, "type", str) or ""
            if kind not in _PARTS:
                raise RequestRejected(
                    reason=f"A part of the type {kind[:40]!r} is not taken here.", field=where
                )
            # Pictures are kept by it, and another client's would be found by the same one.
            if "uuid" in part:
                raise RequestRejected(reason="`uuid` is not taken here.", field=f"{where}.uuid")
            images += kind == "image_url"
    if images > images_max:
        raise RequestRejected(
            reason=f"At most {images_max} pictures are taken in one request, not {images}.",
            field="messages",
        )
