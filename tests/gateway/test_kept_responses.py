"""Responses that clients come back for: continued, shown, listed, deleted, and nobody else's."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from tests.gateway.parts import (
    DONE,
    OTHER_KEY,
    USAGE,
    Answer,
    Gateway,
    gateway_to,
    streaming,
    token,
    whole,
)
from tests.util.http_parts import Caller

from helexa.cortex.gateway.keeper import Keeper, keeping
from helexa.cortex.settings import LimitsSettings, ResponsesSettings

pytestmark = pytest.mark.anyio

PATH = "/v1/responses"
PICTURE = (
    "data:image/png;base64,iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk"
    "+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg=="
)


class Neuron:
    """Answers with what it is told to say, and remembers what it was asked."""

    def __init__(self) -> None:
        self.asked: list[dict[str, Any]] = []
        self.message: dict[str, Any] = {"content": "hello"}
        self.finish = "stop"

    async def script(self, caller: Caller) -> None:
        while True:
            request = await caller.request()
            self.asked.append(json.loads(request.split(b"\r\n\r\n", 1)[1]))
            message = {"role": "assistant", **self.message}
            choice = {"index": 0, "message": message, "finish_reason": self.finish}
            await caller.say(whole(json.dumps({"model": "m", "choices": [choice]}).encode()))

    @property
    def messages(self) -> list[dict[str, Any]]:
        return self.asked[-1]["messages"]


@asynccontextmanager
async def kept(home: Path) -> AsyncIterator[tuple[Gateway, Neuron, Keeper]]:
    neuron = Neuron()
    async with keeping(home, ResponsesSettings(), line_bytes_max=1 << 20) as keeper:
        assert keeper is not None
        async with gateway_to(neuron.script, shelf=keeper) as gateway:
            yield gateway, neuron, keeper


async def ask(gateway: Gateway, given: Any, **more: Any) -> Answer:
    answer = await gateway.post({"model": "m", "input": given, **more}, PATH)
    assert answer.status == 200, answer.body
    return answer


async def refused(gateway: Gateway, body: dict[str, Any]) -> dict[str, Any]:
    answer = await gateway.post({"model": "m", **body}, PATH)
    assert answer.status == 400
    return answer.error


async def test_a_conversation_goes_on_without_the_instructions_of_before(tmp_path: Path) -> None:
    async with kept(tmp_path) as (gateway, neuron, _):
        first = (await ask(gateway, "one", instructions="Be brief.")).json
        assert first["store"] is True
        second = (await ask(gateway, "two", previous_response_id=first["id"])).json
        assert second["previous_response_id"] == first["id"]
        assert neuron.messages == [
            {"role": "user", "content": "one"},
            {"role": "assistant", "content": "hello"},
            {"role": "user", "content": "two"},
        ]
        await ask(gateway, None, previous_response_id=second["id"], instructions="Be long.")
        assert [one["role"] for one in neuron.messages] == [
            *("system", "user", "assistant", "user", "assistant"),
        ]


async def test_thoughts_and_calls_are_part_of_a_conversation(tmp_path: Path) -> None:
    call = {
        "id": "call_1",
        "type": "function",
        "function": {"name": "add", "arguments": '{"a":1}'},
    }
    message = {"reasoning_content": "Hm.", "content": None, "tool_calls": [call]}
    async with kept(tmp_path) as (gateway, neuron, _):
        neuron.message, neuron.finish = message, "tool_calls"
        first = (await ask(gateway, "one")).json
        assert [one["type"] for one in first["output"]] == ["reasoning", "function_call"]
        output = {"type": "function_call_output", "call_id": "call_1", "output": "2"}
        await ask(gateway, [output], previous_response_id=first["id"])
        assert neuron.messages == [
            {"role": "user", "content": "one"},
            {"role": "assistant", **message},
            {"role": "tool", "tool_call_id": "call_1", "content": "2"},
        ]


async def test_items_may_be_named_instead_of_sent(tmp_path: Path) -> None:
    async with kept(tmp_path) as (gateway, neuron, _):
        first = (await ask(gateway, "one")).json
        said = first["output"][0]["id"]
        items = (await gateway.get(f"{PATH}/{first['id']}/input_items")).json["data"]
        again = [
            {"type": "item_reference", "id": items[0]["id"]},
            {"id": said},
            {"role": "user", "content": "two"},
        ]
        second = (await ask(gateway, again)).json
        expected = [
            {"role": "user", "content": "one"},
            {"role": "assistant", "content": "hello"},
            {"role": "user", "content": "two"},
        ]
        assert neuron.messages == expected
        await gateway.post(b"", f"{PATH}/{first['id']}", method="DELETE")
        await ask(gateway, None, previous_response_id=second["id"])
        assert neuron.messages[:3] == expected
        error = await refused(gateway, {"input": [{"role": "user", "content": "x"}, {"id": said}]})
        assert error["param"] == "input[1].id"


async def test_a_response_is_shown_as_it_was_given(tmp_path: Path) -> None:
    async with kept(tmp_path) as (gateway, _, _keeper):
        given = await ask(gateway, "one", metadata={"a": "b"})
        shown = await gateway.get(f"{PATH}/{given.json['id']}")
        assert (shown.status, shown.body) == (200, given.body)
        again = await gateway.get(f"{PATH}/{given.json['id']}?stream=true")
        assert (again.status, again.error["param"]) == (400, "stream")


async def test_a_streamed_response_is_kept_as_its_last_event_has_it(tmp_path: Path) -> None:
    finish = b'data: {"choices":[{"index":0,"delta":{},"finish_reason":"length"}]}\n\n'
    far = streaming(token("hel"), finish, USAGE, DONE)
    async with (
        keeping(tmp_path, ResponsesSettings(), line_bytes_max=1000) as keeper,
        gateway_to(far, shelf=keeper) as gateway,
    ):
        answer = await gateway.post({"model": "m", "input": "hi", "stream": True}, PATH)
        data = answer.body.decode().split("data: ")[-1]
        response = json.loads(data)["response"]
        assert response["status"] == "incomplete"
        assert (await gateway.get(f"{PATH}/{response['id']}")).json == response


async def test_a_response_that_failed_is_not_kept(tmp_path: Path) -> None:
    async with (
        keeping(tmp_path, ResponsesSettings(), line_bytes_max=1000) as keeper,
        gateway_to(streaming(token("hel")), shelf=keeper) as gateway,
    ):
        answer = await gateway.post({"model": "m", "input": "hi", "stream": True}, PATH)
        failed = json.loads(answer.body.decode().split("data: ")[-1])["response"]
        assert failed["status"] == "failed"
        assert failed["store"] is False
        assert (await gateway.get(f"{PATH}/{failed['id']}")).status == 404


async def test_what_is_not_to_be_stored_is_not(tmp_path: Path) -> None:
    async with kept(tmp_path) as (gateway, _, keeper):
        given = (await ask(gateway, "one", store=False)).json
        assert given["store"] is False
        assert keeper.pending == 0
        assert (await gateway.get(f"{PATH}/{given['id']}")).status == 404
        error = await refused(gateway, {"input": "two", "previous_response_id": given["id"]})
        assert error["code"] == "previous_response_not_found"
        assert error["param"] == "previous_response_id"


async def test_who_cannot_be_promised_anything_is_told(tmp_path: Path) -> None:
    async with kept(tmp_path) as (gateway, _, keeper):
        keeper.is_failing = True
        given = (await ask(gateway, "one")).json
        assert given["output"][0]["content"][0]["text"] == "hello"
        assert given["store"] is False
        assert (await gateway.get(f"{PATH}/{given['id']}")).status == 404


async def test_nothing_is_kept_for_strangers(tmp_path: Path) -> None:
    limits = LimitsSettings(anonymous=True)
    async with (
        keeping(tmp_path, ResponsesSettings(), line_bytes_max=1000) as keeper,
        gateway_to(Neuron().script, shelf=keeper, limits=limits) as gateway,
    ):
        answer = await gateway.post({"model": "m", "input": "hi"}, PATH, key=None)
        assert answer.status == 200
        assert answer.json["store"] is False
        assert keeper is not None
        assert keeper.pending == 0
        shown = await gateway.get(f"{PATH}/{answer.json['id']}", key=None)
        assert shown.status == 404
        body = {"model": "m", "input": "x", "previous_response_id": answer.json["id"]}
        assert (await gateway.post(body, PATH, key=None)).status == 400


async def test_another_account_sees_none_of_it(tmp_path: Path) -> None:
    async with kept(tmp_path) as (gateway, _, _keeper):
        first = (await ask(gateway, "one")).json
        path = f"{PATH}/{first['id']}"
        for method, where in [
            ("GET", path),
            ("DELETE", path),
            ("GET", f"{path}/input_items"),
            ("POST", f"{path}/cancel"),
        ]:
            answer = await gateway.post(b"", where, method=method, key=OTHER_KEY)
            assert (answer.status, answer.error["code"]) == (404, "response_not_found"), where
        body = {"model": "m", "input": "two", "previous_response_id": first["id"]}
        assert (await gateway.post(body, PATH, key=OTHER_KEY)).status == 400
        named = {"model": "m", "input": [{"id": first["output"][0]["id"]}]}
        assert (await gateway.post(named, PATH, key=OTHER_KEY)).error["param"] == "input[0].id"
        assert (await gateway.get(path)).status == 200
        assert (await gateway.get(path, key=None)).status == 401


async def test_who_deletes_a_response_ends_the_conversation_through_it(tmp_path: Path) -> None:
    async with kept(tmp_path) as (gateway, _, _keeper):
        first = (await ask(gateway, "one")).json
        second = (await ask(gateway, "two", previous_response_id=first["id"])).json
        answer = await gateway.post(b"", f"{PATH}/{first['id']}", method="DELETE")
        assert answer.json == {"id": first["id"], "object": "response", "deleted": True}
        assert (await gateway.get(f"{PATH}/{first['id']}")).status == 404
        again = await gateway.post(b"", f"{PATH}/{first['id']}", method="DELETE")
        assert again.status == 404
        error = await refused(gateway, {"input": "x", "previous_response_id": second["id"]})
        assert error["code"] == "previous_response_not_found"
        assert (await gateway.get(f"{PATH}/{second['id']}")).status == 200


async def test_a_finished_response_cannot_be_cancelled(tmp_path: Path) -> None:
    async with kept(tmp_path) as (gateway, _, _keeper):
        first = (await ask(gateway, "one")).json
        answer = await gateway.post(b"", f"{PATH}/{first['id']}/cancel")
        assert answer.status == 400


async def test_input_items_are_all_that_a_response_answers_to_in_pages(tmp_path: Path) -> None:
    picture = {"type": "input_image", "image_url": PICTURE}
    async with kept(tmp_path) as (gateway, _, _keeper):
        first = (await ask(gateway, "one")).json
        items = [
            {"role": "user", "content": [{"type": "input_text", "text": "two"}, picture]},
            {"role": "assistant", "content": "three"},
            {"type": "function_call", "call_id": "c", "name": "f", "arguments": "{}"},
            {"type": "function_call_output", "call_id": "c", "output": "4", "id": "mine"},
        ]
        second = (await ask(gateway, items, previous_response_id=first["id"])).json

        async def listed(query: str = "") -> dict[str, Any]:
            return (await gateway.get(f"{PATH}/{second['id']}/input_items{query}")).json

        rising = await listed("?order=asc")
        assert [one["type"] for one in rising["data"]] == [
            *("message", "message", "message", "message"),
            *("function_call", "function_call_output"),
        ]
        assert rising["data"][1] == first["output"][0]
        assert rising["data"][2]["content"][1] == picture
        assert rising["data"][3]["content"][0]["type"] == "output_text"
        assert rising["data"][5]["id"] == "mine"
        assert len({one["id"] for one in rising["data"]}) == 6
        assert rising["object"] == "list"
        assert not rising["has_more"]
        falling = (await listed())["data"]
        assert falling == rising["data"][::-1]
        assert (await listed("?include=reasoning.encrypted_content"))["data"] == falling
        page = await listed(f"?limit=2&after={falling[1]['id']}")
        assert page["data"] == falling[2:4]
        assert (page["first_id"], page["last_id"]) == (falling[2]["id"], falling[3]["id"])
        assert page["has_more"]


@pytest.mark.parametrize(
    ("query", "param"),
    [
        *((f"limit={limit}", "limit") for limit in ("0", "101", "x", "", "9" * 5000)),
        ("order=up", "order"),
        ("after=none", "after"),
        ("include=zz", "include"),
        ("include[]=message.output_text.logprobs&include[]=zz", "include"),
    ],
)
async def test_a_page_that_cannot_be_is_refused(tmp_path: Path, query: str, param: str) -> None:
    async with kept(tmp_path) as (gateway, _, _keeper):
        first = (await ask(gateway, "one")).json
        answer = await gateway.get(f"{PATH}/{first['id']}/input_items?{query}")
        assert (answer.status, answer.error["param"]) == (400, param)


async def test_other_calls_of_openais_are_unknown_here(tmp_path: Path) -> None:
    async with kept(tmp_path) as (gateway, _, _keeper):
        answer = await gateway.post({"model": "m", "input": "x"}, f"{PATH}/compact")
        assert (answer.status, answer.error["code"]) == (404, "unknown_url")


async def test_tokens_are_counted_with_what_is_continued(tmp_path: Path) -> None:
    asked: list[bytes] = []

    async def script(caller: Caller) -> None:
        await caller.request()
        await caller.say(whole(b'{"choices":[{"message":{"content":"hello"}}]}'))
        for said in (b'{"count":12,"max_model_len":99,"tokens":[]}', b"{}"):
            asked.append(await caller.request())
            await caller.say(whole(said))

    async with (
        keeping(tmp_path, ResponsesSettings(), line_bytes_max=1000) as keeper,
        gateway_to(script, shelf=keeper) as gateway,
    ):
        first = (await ask(gateway, "one")).json
        body = {"model": "m", "input": "two", "previous_response_id": first["id"]}
        answer = await gateway.post(body, f"{PATH}/input_tokens")
        assert answer.json == {"object": "response.input_tokens", "input_tokens": 12}
        assert asked[0].startswith(b"POST /v1/tokenize ")
        sent = json.loads(asked[0].split(b"\r\n\r\n", 1)[1])
        assert [one["content"] for one in sent["messages"]] == ["one", "hello", "two"]
        assert (await gateway.post(body, f"{PATH}/input_tokens")).status == 502
        assert (await gateway.post({**body, "prompt": {}}, f"{PATH}/input_tokens")).status == 400


async def test_a_gateway_without_a_shelf_says_that_it_keeps_nothing() -> None:
    neuron = Neuron()
    async with gateway_to(neuron.script) as gateway:
        given = (await ask(gateway, "one")).json
        assert given["store"] is False
        for method in ("GET", "DELETE"):
            answer = await gateway.post(b"", f"{PATH}/{given['id']}", method=method)
            assert answer.status == 404
        assert (await gateway.get(f"{PATH}/{given['id']}/input_items")).status == 404
        error = await refused(gateway, {"input": "x", "previous_response_id": given["id"]})
        assert error["code"] == "previous_response_not_found"
