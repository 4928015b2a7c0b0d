"""Servers that are OpenAI-compatible more or less: what is asked of them, and what they mean."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from helexa.protocol.errors import (
    Busy,
    CapabilityMissing,
    HelexaError,
    LoopDetected,
    ModalityUnsupported,
    ModelLoading,
    NoCapacity,
    PromptTooLong,
    RequestRejected,
    RuntimeRefused,
    UpstreamTimeout,
)
from helexa.protocol.ids import ModelId
from helexa.protocol.work import Usage
from helexa.runtime import offers
from helexa.runtime.adapters.openai_compatible import adapter
from helexa.runtime.contract import (
    Endpoint,
    ExitReason,
    Grant,
    Installation,
    ModelFiles,
    ReplicaSpec,
)
from helexa.runtime.openai_compatible import address, command, counts
from helexa.runtime.shaping import shaped
from helexa.util.dialling import Tcp

GRANT = Grant(
    socket=Path("/run/x/c.sock"), scratch=Path("/run/x"), port=4711, secret="s3", devices=(0, 2)
)
URL = "https://api.example.com/openai/v1"


def spec(*offered: str, called: str = "org/Model-7B", **installation: Any) -> ReplicaSpec:
    return ReplicaSpec(
        files=ModelFiles(
            model=ModelId("seven"),
            weights=Path(),
            format="server",
            server="s",
            called=called,
            told=offers.read(offered),
        ),
        context_tokens=4096,
        slots=4,
        installation=Installation(**(installation or {"url": URL})),
    )


def chat(**more: Any) -> bytes:
    body = {"model": "alias", "messages": [{"role": "user", "content": "x"}], **more}
    return json.dumps(body).encode()


# --- the URL


@pytest.mark.parametrize(
    ("url", "host", "port", "tls", "base"),
    [
        ("http://127.0.0.1:11434/v1", "127.0.0.1", 11434, False, "/v1"),
        ("http://127.0.0.1:11434/v1/", "127.0.0.1", 11434, False, "/v1"),
        ("https://api.example.com/v1", "api.example.com", 443, True, "/v1"),
        ("https://example.com/api/v1beta/openai/", "example.com", 443, True,
         "/api/v1beta/openai"),
        ("http://[::1]:8000", "::1", 8000, False, ""),
        ("http://box/v1", "box", 80, False, "/v1"),
        ("https://my_host.example./v1", "my_host.example.", 443, True, "/v1"),
    ],
)  # fmt: skip
def test_a_url_is_taken_apart(url: str, host: str, port: int, tls: bool, base: str) -> None:
    assert address.parse(url) == address.Place(host, port, tls, base)


@pytest.mark.parametrize(
    ("url", "word"),
    [
        ("ftp://host/v1", "http://"),
        ("127.0.0.1:11434/v1", "http"),
        ("http://", "no host"),
        ("http://:8000/v1", "no host"),
        ("http://host:99999/v1", "no URL"),
        ("http://host:0/v1", "port 0"),
        ("http://host:x/v1", "no URL"),
        ("http://me:secret@host/v1", "key_file"),
        ("http://key@host/v1", "key_file"),
        ("http://host/v1?key=1", "query"),
        ("http://host/v1#x", "fragment"),
        ("http://host/v1/chat/completions", "up to before"),
        ("http://host/v1/models/", "up to before"),
        ("http://host/a b", "path"),
        ("http://host/v1\r\nx: y", "path"),
        ("http://host/../v1", "path"),
        ("http://ho st/v1", "host"),
        ("http://-host/v1", "host"),
        ("http://höst/v1", "host"),
    ],
)
def test_what_is_no_base_url_is_refused_with_the_reason(url: str, word: str) -> None:
    with pytest.raises(address.UrlRefused, match=word):
        address.parse(url)


@given(url=st.text(max_size=60).map(lambda text: f"http://{text}"))
def test_no_url_that_is_taken_could_break_a_request(url: str) -> None:
    try:
        place = address.parse(url)
    except address.UrlRefused as refused:
        assert str(refused)  # noqa: PT017 - most texts are refused, not all
    else:
        path = place.path(Endpoint.CHAT)
        assert path.isascii()
        assert path.isprintable()
        assert " " not in path
        assert place.host
        assert place.host.isascii()


def test_a_server_with_a_url_is_not_started_and_is_shown_the_key() -> None:
    plan = adapter.plan(spec(url=URL, key="k1"), GRANT)
    assert not plan.argv
    assert isinstance(plan.reach, Tcp)
    assert (plan.reach.host, plan.reach.port) == ("api.example.com", 443)
    assert plan.reach.tls is not None
    assert plan.reach.tls.check_hostname
    assert plan.reach.authority == "api.example.com"
    assert (b"authorization", b"Bearer k1") in plan.headers
    assert plan.ready_path == "/openai/v1/models"
    assert adapter.footprint(spec()).total == 0


def test_without_a_key_none_is_shown() -> None:
    plan = adapter.plan(spec(url="http://127.0.0.1:1/v1"), GRANT)
    assert b"authorization" not in dict(plan.headers)
    assert isinstance(plan.reach, Tcp)
    assert plan.reach.tls is None
    assert plan.reach.authority == "127.0.0.1:1"


# --- the command


def test_words_in_braces_are_filled_in_argument_by_argument() -> None:
    wanted = spec(
        command=(
            "srv", "--m={model}", "--p", "{port}", "--ctx={context_tokens}x{slots}",
            "{weights}", '{"a": {}}', "{{port}}", "--devices={devices}",
        ),
        environment={"API_KEY": "{secret}"},
    )  # fmt: skip
    wanted = replace(wanted, files=replace(wanted.files, weights=Path("/m/a b;$(x).gguf")))
    plan = adapter.plan(wanted, GRANT)
    assert plan.argv == (
        "srv", "--m=org/Model-7B", "--p", "4711", "--ctx=4096x4", "/m/a b;$(x).gguf",
        '{"a": {}}', "{port}", "--devices=0,2",
    )  # fmt: skip
    assert plan.env == {"CUDA_VISIBLE_DEVICES": "0,2", "API_KEY": "s3"}
    assert plan.reach == Tcp("127.0.0.1", 4711)
    assert (b"authorization", b"Bearer s3") in plan.headers
    assert plan.ready_path == "/v1/models"


def test_a_command_that_names_the_socket_is_asked_there_and_shown_the_operators_key() -> None:
    plan = adapter.plan(spec(command=("srv", "{socket}"), key="k1", ready_path="/up"), GRANT)
    assert plan.argv == ("srv", "/run/x/c.sock")
    assert plan.reach is None
    assert (b"authorization", b"Bearer k1") in plan.headers
    assert plan.ready_path == "/up"


def test_what_is_filled_in_is_not_read_again() -> None:
    wanted = spec(command=("srv", "{model}", "{port}"), called="{secret}")
    assert adapter.plan(wanted, GRANT).argv[1] == "{secret}"


@pytest.mark.parametrize(
    ("words", "why"),
    [
        (("srv", "--port", "{prot}"), "{prot} is not known"),
        (("srv",), "neither {port} nor {socket}"),
        (("srv", "{port}", "{socket}"), "one of them"),
        (("srv", "{port}", "{weights}"), ""),
        (("srv", "{port}", '{"a": {"b": 1}}'), ""),
    ],
)
def test_a_command_is_judged_before_it_is_needed(words: tuple[str, ...], why: str) -> None:
    assert why in command.wrong_with(words)
    assert bool(command.wrong_with(words)) == bool(why)


def test_files_that_a_command_serves_need_memory() -> None:
    wanted = spec(command=("srv", "{port}"))
    files = replace(wanted.files, format="safetensors", weights_bytes=1 << 30)
    assert adapter.footprint(replace(wanted, files=files)).use > 1 << 30


@pytest.mark.parametrize(
    ("status", "log", "reason"),
    [
        (127, "", ExitReason.NOT_INSTALLED),
        (1, "ModuleNotFoundError: No module named 'sglang'", ExitReason.NOT_INSTALLED),
        (1, "torch.OutOfMemoryError: CUDA out of memory", ExitReason.OUT_OF_MEMORY),
        (1, "[Errno 98] error while attempting to bind: address already in use",
         ExitReason.SOCKET_TAKEN),
        (2, "error: unrecognized arguments: --prot", ExitReason.SETTINGS_UNSUITABLE),
        (-15, "", ExitReason.STOPPED),
        (143, "", ExitReason.STOPPED),
        (3, "boom", ExitReason.UNKNOWN),
    ],
)  # fmt: skip
def test_an_exit_is_explained(status: int, log: str, reason: ExitReason) -> None:
    assert adapter.explain_exit(status, log).reason is reason


# --- requests


def test_a_request_goes_below_the_base_with_the_name_there() -> None:
    request = shaped(adapter, Endpoint.CHAT, chat(temperature=0.5, x_unknown=1), spec())
    assert request.path == "/openai/v1/chat/completions"
    assert json.loads(request.body) == {
        "model": "org/Model-7B",
        "messages": [{"role": "user", "content": "x"}],
        "temperature": 0.5,
        "x_unknown": 1,
        "stream": True,
        "stream_options": {"include_usage": True},
    }


def test_a_command_is_asked_below_v1() -> None:
    wanted = spec("embedding", command=("srv", "{port}"))
    body = json.dumps({"model": "m", "input": "x", "encoding_format": "base64"}).encode()
    request = shaped(adapter, Endpoint.EMBEDDINGS, body, wanted)
    assert request.path == "/v1/embeddings"
    assert json.loads(request.body)["encoding_format"] == "base64"
    assert not request.streamed


def test_reranking_is_asked_of_who_offers_it() -> None:
    body = json.dumps({"model": "m", "query": "q", "documents": ["a", "b"]}).encode()
    request = shaped(adapter, Endpoint.RERANK, body, spec("rerank"))
    assert request.path == "/openai/v1/rerank"
    assert json.loads(request.body)["model"] == "org/Model-7B"


@pytest.mark.parametrize(
    ("more", "refusal"),
    [
        ({"tools": [{"type": "function", "function": {"name": "f"}}]}, CapabilityMissing),
        ({"response_format": {"type": "json_object"}}, CapabilityMissing),
        ({"n": 2}, CapabilityMissing),
        ({"messages": []}, RequestRejected),
        (
            {"messages": [{"role": "user", "content": [
                {"type": "image_url", "image_url": {"url": "data:image/png;base64,AA"}}]}]},
            ModalityUnsupported,
        ),
    ],
)  # fmt: skip
def test_what_nobody_said_that_it_can_is_refused_before_it_is_asked(
    more: dict[str, Any], refusal: type[HelexaError]
) -> None:
    with pytest.raises(refusal):
        shaped(adapter, Endpoint.CHAT, chat(**more), spec())


def test_a_picture_goes_to_who_sees() -> None:
    parts = [{"type": "image_url", "image_url": {"url": "data:image/png;base64,AA"}}]
    body = chat(messages=[{"role": "user", "content": parts}])
    request = shaped(adapter, Endpoint.CHAT, body, spec("vision"))
    assert json.loads(request.body)["messages"][0]["content"] == parts


# --- answers


def test_answers_have_the_model_s_name_here_although_it_is_the_same_there() -> None:
    request = shaped(adapter, Endpoint.CHAT, chat(), spec(called="seven"))
    assert request.rewrite is not None
    (event,) = request.rewrite().event(b'{"model":"seven-2026-01","choices":[]}')
    assert json.loads(event) == {"model": "seven", "choices": []}


def test_an_answer_has_the_name_that_was_asked_for() -> None:
    request = shaped(adapter, Endpoint.CHAT, chat(), spec())
    assert request.rewrite is not None
    rewrite = request.rewrite()
    (event,) = rewrite.event(b'{"id":"1","model":"org/Model-7B","choices":[]}')
    assert json.loads(event) == {"id": "1", "model": "seven", "choices": []}
    assert rewrite.event(b'{"id":"1"}') == (b'{"id":"1"}',)
    assert list(rewrite.end()) == []
    assert json.loads(rewrite.whole(b'{"model":"x","data":[]}'))["model"] == "seven"


@pytest.mark.parametrize("part", ["delta", "message"])
def test_thoughts_are_under_one_name_for_all_servers(part: str) -> None:
    request = shaped(adapter, Endpoint.CHAT, chat(), spec("chat", "reasoning", called="seven"))
    assert request.rewrite is not None
    said = {"choices": [{"index": 0, part: {"content": "", "reasoning": "hm"}}]}
    (event,) = request.rewrite().event(json.dumps(said).encode())
    assert json.loads(event)["choices"][0][part] == {"content": "", "reasoning_content": "hm"}
    both = {"choices": [{part: {"reasoning": "a", "reasoning_content": "b"}}]}
    (event,) = request.rewrite().event(json.dumps(both).encode())
    assert json.loads(event)["choices"][0][part] == {"reasoning_content": "b"}
    text = b'{"choices":[{"delta":{"content":"the word \\"reasoning\\""}}]}'
    assert json.loads(request.rewrite().event(text)[0]) == json.loads(text)


@pytest.mark.parametrize(
    ("said", "used"),
    [
        ({"prompt_tokens": 10, "completion_tokens": 5, "total_tokens": 15},
         Usage(prompt_uncached=10, completion=5)),
        ({"prompt_tokens": 10, "completion_tokens": 5,
          "prompt_tokens_details": {"cached_tokens": 4},
          "completion_tokens_details": {"reasoning_tokens": 2}},
         Usage(prompt_uncached=6, prompt_cached=4, completion=3, reasoning=2)),
        ({"prompt_tokens": 10, "completion_tokens": 5, "prompt_cache_hit_tokens": 4},
         Usage(prompt_uncached=6, prompt_cached=4, completion=5)),
        ({"input_tokens": 10, "output_tokens": 5}, Usage(prompt_uncached=10, completion=5)),
        ({"total_tokens": 7}, Usage(prompt_uncached=7)),
        ({"prompt_tokens": 3, "cached_tokens": 9}, Usage(prompt_cached=3)),
        ({"prompt_tokens": 10, "completion_tokens": 5, "prompt_tokens_details": None},
         Usage(prompt_uncached=10, completion=5)),
        ({"prompt_tokens": -1}, None),
        ({"prompt_tokens": "many"}, None),
        ({}, None),
        (None, None),
    ],
)  # fmt: skip
def test_counts_are_read_in_the_shapes_that_servers_write(said: Any, used: Usage | None) -> None:
    assert counts.read(json.dumps({"choices": [], "usage": said}).encode()) == used


# --- refusals


def error(message: str, **more: Any) -> bytes:
    return json.dumps({"error": {"message": message, **more}}).encode()


@pytest.mark.parametrize(
    ("status", "body", "kind", "words"),
    [
        (400, error("bad temperature", param="temperature"), RequestRejected, "bad temperature"),
        (422, b'{"detail":[{"msg":"field required"}]}', RequestRejected, "field required"),
        (401, error("Incorrect API key provided: sk-abc"), RuntimeRefused, "node's key (401)"),
        (403, error("no"), RuntimeRefused, "does not let this node"),
        (402, error("Insufficient credits"), RuntimeRefused, "paid"),
        (404, error("The model `org/Model-7B` does not exist.", code=404), NoCapacity, "'seven'"),
        (404, error('model "x" not found, try pulling it first'), NoCapacity, "no longer"),
        (404, b'{"detail":"Not Found"}', CapabilityMissing, "this endpoint"),
        (404, error("x", code="model_not_found"), NoCapacity, "no longer"),
        (405, error("no"), CapabilityMissing, "openai_compatible"),
        (408, b"", UpstreamTimeout, "waiting"),
        (429, error("Rate limit reached for org-123"), Busy, "no more requests"),
        (503, error("Loading model", type="unavailable_error"), ModelLoading, "starting"),
        (503, error("overloaded"), Busy, "no more requests"),
        (529, b"", Busy, "no more requests"),
        (500, error("boom at org/Model-7B"), RuntimeRefused, "500: boom at seven"),
        (502, b"<html>", RuntimeRefused, "502 without"),
        (504, b"<html>", UpstreamTimeout, "waiting"),
        (508, error("x"), LoopDetected, "leads back"),
        (500, error("x", code="loop_detected"), LoopDetected, "leads back"),
        (301, b"", RuntimeRefused, "301"),
    ],
)
def test_a_refusal_means_what_it_means_here(
    status: int, body: bytes, kind: type[HelexaError], words: str
) -> None:
    found = adapter.refusal(status, body, spec())
    assert type(found) is kind
    assert words in found.message
    assert "sk-abc" not in found.message
    assert "org-123" not in found.message
    assert found.status != 401


VLLM = (
    "This model's maximum context length is 2048 tokens. However, you requested 3000 tokens "
    "(2900 in the messages, 100 in the completion)."
)
OPENAI = (
    "This model's maximum context length is 8192 tokens. However, your messages resulted in "
    "9001 tokens."
)
SGLANG = "The input (5000 tokens) is longer than the model's context length (4096 tokens)."
LLAMA = "request (600 tokens) exceeds the available context size (512 tokens), try increasing it"
HELEXA = "The prompt is 700 tokens; this model reads 512 tokens including its answer."


@pytest.mark.parametrize(
    ("text", "tokens", "most"),
    [(VLLM, 3000, 2048), (OPENAI, 9001, 8192), (SGLANG, 5000, 4096), (LLAMA, 600, 512),
     (HELEXA, 700, 512)],
)  # fmt: skip
def test_a_prompt_that_is_too_long_is_told_with_the_numbers(
    text: str, tokens: int, most: int
) -> None:
    found = adapter.refusal(400, error(text), spec())
    assert isinstance(found, PromptTooLong)
    assert (found.tokens, found.tokens_max) == (tokens, most)
