"""No prompt that could fit is refused, and one that cannot is refused before an engine sees it."""

from __future__ import annotations

import json
import random
from dataclasses import replace
from pathlib import Path
from typing import Any

import anyio
import msgspec
import pytest
from tests.neuron.test_app import api, ask, children, settings

import helexa.neuron.models as models_package
from helexa.mesh.transports.memory import MemoryNetwork
from helexa.neuron.app import running
from helexa.neuron.models import gguf, tokenizer_file
from helexa.neuron.models.listing import list_models
from helexa.neuron.models.store import _described
from helexa.neuron.serving import lengths
from helexa.neuron.supervisor.large import LARGE_BYTES, LargeTurns
from helexa.protocol.errors import PromptTooLong
from helexa.protocol.ids import ModelId
from helexa.runtime.contract import Endpoint, ReplicaSpec
from helexa.runtime.openai_compatible import refusal

CHAT = "/v1/chat/completions"
DEMO = ModelId("helexa-demo")


def demo(context_tokens: int = 2048) -> ReplicaSpec:
    folder = Path(models_package.__file__).parent / "demo"
    files = _described(DEMO, list_models(folder).models[DEMO])
    return ReplicaSpec(files=files, context_tokens=context_tokens, slots=2)


SPEC = demo()


def least(endpoint: Endpoint, member: Any, spec: ReplicaSpec = SPEC) -> int:
    return lengths.least_tokens(endpoint, msgspec.Raw(json.dumps(member).encode()), spec)


def test_the_longest_token_of_the_demo_model_is_known() -> None:
    assert SPEC.files.token_bytes_max == 52
    vision = SPEC.files.weights.with_name("helexa-demo-vision.gguf")
    assert (known := gguf.read(vision).vocabulary) is not None
    assert known.longest_bytes == 16


def test_messages_cost_a_token_each_and_those_that_a_template_may_drop_cost_none() -> None:
    user = {"role": "user", "content": "h"}
    assert least(Endpoint.CHAT, [user] * 3000) == 3000
    assert least(Endpoint.CHAT, [{"role": "user", "content": " \n"}] * 3000) == 0
    thought = {"role": "assistant", "content": "<think>" + "x" * 9000 + "</think>y"}
    assert least(Endpoint.CHAT, [user, thought]) == 1
    picture = {"type": "image_url", "image_url": {"url": "data:image/png;base64," + "A" * 9000}}
    assert least(Endpoint.CHAT, [{"role": "user", "content": [picture]}]) == 0


SEES = "{% for message in messages %}"
END = "{% endfor %}"
ALIKE = SEES + "{{ '<|' + message['role'] + '|>' + message['content'] }}" + END
LEADING = (
    "{% if messages[0].role == 'system' %}{{ messages[0].content }}{% endif %}"
    + SEES
    + "{% if message.role == 'user' or message.role == 'assistant' %}"
    + "{{ '<|' + message.role + '|>' + message.content }}{% endif %}"
    + END
)
NO_SYSTEM = SEES + "{% if message['role'] == 'user' %}{{ message['content'] }}{% endif %}" + END


@pytest.mark.parametrize(
    ("template", "first", "later"),
    [("", 1, 1), (ALIKE, 1, 1), (LEADING, 1, 0), (NO_SYSTEM, 0, 0)],
)
def test_a_system_message_counts_where_the_template_surely_renders_it(
    template: str, first: int, later: int
) -> None:
    spec = replace(SPEC, files=replace(SPEC.files, chat_template=template))
    user, system = {"role": "user", "content": "h"}, {"role": "system", "content": "x"}
    assert least(Endpoint.CHAT, [system, user], spec) == 1 + first
    assert least(Endpoint.CHAT, [user, system, user], spec) == 2 + later


def test_what_templates_write_each_in_its_way_is_left_to_the_engine() -> None:
    user = {"role": "user", "content": "h"}
    call = {"id": "c", "type": "function", "function": {"name": "f", "arguments": "x" * 9000}}
    developer = {"role": "developer", "content": "x" * 9000}
    assert least(Endpoint.CHAT, [developer, user, {"role": "assistant", "tool_calls": [call]}]) == 1


def test_prompts_of_a_list_are_judged_apart() -> None:
    assert least(Endpoint.COMPLETIONS, ["x" * 52, "y" * 53]) == 2
    assert least(Endpoint.COMPLETIONS, [1] * 7) == 7
    assert least(Endpoint.COMPLETIONS, [[1] * 7, [2] * 9]) == 9


@pytest.mark.anyio
@pytest.mark.parametrize("times", [1, 4])
async def test_what_is_over_is_refused_with_an_honest_number(times: int) -> None:
    words = "x" * 52 * 2048 * times
    body = json.dumps({"prompt": words}).encode()
    await lengths.check(Endpoint.COMPLETIONS, body, SPEC, times=times)
    body = json.dumps({"prompt": words + "x"}).encode()
    with pytest.raises(PromptTooLong) as told:
        await lengths.check(Endpoint.COMPLETIONS, body, SPEC, times=times)
    assert (told.value.param, told.value.tokens) == ("prompt", 2048 * times + 1)
    assert f"at least {2048 * times + 1} tokens" in told.value.message
    # Said by another neuron, it is the same here.
    said = json.dumps({"error": {"message": told.value.message}}).encode()
    passed_on = refusal.meaning(400, said, SPEC, runtime="openai_compatible")
    assert passed_on.message == told.value.message
    cut = json.dumps({"prompt": words + "x", "truncate_prompt_tokens": 5}).encode()
    await lengths.check(Endpoint.COMPLETIONS, cut, SPEC, times=times)


def test_a_tokenizer_file_has_a_bound_only_where_no_text_is_lost(tmp_path: Path) -> None:
    sound: dict[str, Any] = {
        "model": {"type": "BPE", "vocab": {"a": 0, "abc": 1}},
        "added_tokens": [{"content": "<|end|>"}],
        "pre_tokenizer": {"type": "Sequence", "pretokenizers": [{"type": "ByteLevel"}]},
    }
    path = tmp_path / "tokenizer.json"

    def found(**changed: Any) -> int:
        path.write_text(json.dumps({**sound, **changed}))
        return tokenizer_file.token_bytes_max(path)

    assert tokenizer_file.token_bytes_max(path) == 0
    assert found() == 7
    assert found(normalizer={"type": "NFC"}) == 21
    assert found(normalizer={"type": "StripAccents"}) == 0
    assert found(truncation={"max_length": 5}) == 0
    assert found(pre_tokenizer={"type": "Whitespace"}) == 0
    assert found(model={"type": "WordPiece", "vocab": {"a": 0}}) == 0


@pytest.mark.anyio
async def test_large_requests_go_one_by_one_and_an_abandoned_one_counts_on() -> None:
    turns = LargeTurns(2048, clock=lambda: 0.0)
    waits = anyio.Event()
    entered: list[str] = []

    async def large(name: str) -> None:
        async with turns.turn(LARGE_BYTES):
            entered.append(name)
            waits.set()
            await anyio.sleep_forever()

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(large, "first")
        await waits.wait()
        tasks.start_soon(large, "second")
        async with turns.turn(LARGE_BYTES - 1):
            entered.append("small")
        tasks.cancel_scope.cancel()
    assert entered == ["first", "small"]
    assert turns._busy_until == 1.0
    assert not LargeTurns(1 << 20).is_large(LARGE_BYTES)


PIECES = [
    "h",
    " ",
    "\n",
    "hello ",
    "What is helexa?",
    "    ",
    "\u00e9",
    "\u4e16\u754c",
    "\U0001f600",
    "\x00",
    "</s>",
]
PIECES += ["<|im_end|>", "=" * 40, "helexa" * 9, "\u3000", "e\u0301", "0123456789"]


@pytest.mark.anyio
async def test_the_real_tokenizer_never_needs_fewer_and_abandoned_prompts_stop_nobody(
    tmp_path: Path,
) -> None:
    chance = random.Random(7)
    wanted = settings(tmp_path, tmp_path, slots=2, context_tokens=2048, demo_models=True)
    opened = running(wanted, open_transports={"iroh": MemoryNetwork().open_transport})
    user = {"role": "user", "content": "h"}
    short = {"model": DEMO, "messages": [user], "max_tokens": 1}
    async with opened as live, api(live) as pool:
        assert (await ask(pool, "POST", CHAT, short)).status == 200
        pid = next(iter(children())).pid
        for _ in range(60):
            text = "".join(chance.choices(PIECES, k=chance.randrange(1, 60)))
            told = await ask(pool, "POST", "/v1/tokenize", {"model": DEMO, "prompt": text})
            assert told.json["count"] >= least(Endpoint.COMPLETIONS, text), text
            roles = ["user", "assistant", "system", "developer"]
            said = [
                {"role": chance.choice(roles), "content": chance.choice(PIECES)}
                for _ in range(chance.randrange(1, 20))
            ]
            told = await ask(pool, "POST", "/v1/tokenize", {"model": DEMO, "messages": said})
            assert told.status == 200, told.content
            assert told.json["count"] >= least(Endpoint.CHAT, said), said
        body = json.dumps({**short, "messages": [user] * 60_000}).encode()
        head = f"POST {CHAT} HTTP/1.1\r\nhost: x\r\ncontent-length: {len(body)}\r\n\r\n"
        host, port = "127.0.0.1", int(live.api_url.rpartition(":")[2])
        for _ in range(6):
            async with await anyio.connect_tcp(host, port) as leaving:
                await leaving.send(head.encode() + body)
        assert (await ask(pool, "POST", CHAT, short)).status == 200
        refused = await ask(pool, "POST", CHAT, body)
        assert (refused.status, refused.error["param"]) == (400, "messages")
        assert "at least 60000 tokens" in refused.error["message"]
        for path in (CHAT, "/v1/tokenize"):
            huge = {**short, "messages": [{"role": "user", "content": "hello " * 3_000_000}]}
            refused = await ask(pool, "POST", path, huge)
            assert refused.error["code"] == "context_length_exceeded", path
        assert pid in [one.pid for one in children()]
