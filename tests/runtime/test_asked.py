"""What a client may ask for, the same on every runtime: how long, within which numbers."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest
from tests.runtime.test_adapters_conform import ADAPTERS, spec_of

from helexa.protocol.errors import BodyMalformed, CapabilityMissing, RequestRejected
from helexa.runtime import adapters
from helexa.runtime.children import mistral_rs_asking as asking
from helexa.runtime.children import transformers
from helexa.runtime.children.server import fields
from helexa.runtime.children.server.engine import CHAT, COMPLETIONS
from helexa.runtime.contract import Endpoint, ReplicaSpec, RuntimeAdapter
from helexa.runtime.shaping import shaped

BODIES = {
    Endpoint.CHAT: {"model": "m", "messages": [{"role": "user", "content": "hi"}]},
    Endpoint.COMPLETIONS: {"model": "m", "prompt": "hi"},
}
ENDPOINTS = pytest.mark.parametrize("endpoint", BODIES)
LIMITS = ("max_tokens", "max_completion_tokens", "n_predict")


def spec(adapter: RuntimeAdapter, **files: Any) -> ReplicaSpec:
    usual = spec_of(adapter)
    files = {"chat_template": "{{ messages }}", **files}
    return replace(usual, files=replace(usual.files, **files))


def sent(adapter: RuntimeAdapter, endpoint: Endpoint, **more: Any) -> dict[str, Any]:
    body = json.dumps({**BODIES[endpoint], **more}).encode()
    found: dict[str, Any] = json.loads(shaped(adapter, endpoint, body, spec(adapter)).body)
    return found


@ADAPTERS
@ENDPOINTS
@pytest.mark.parametrize("name", LIMITS)
@pytest.mark.parametrize("value", [-1, 0, 1.5, "3", True])
def test_a_limit_is_a_whole_number_of_one_or_more(
    adapter: RuntimeAdapter, endpoint: Endpoint, name: str, value: Any
) -> None:
    with pytest.raises(BodyMalformed) as refused:
        sent(adapter, endpoint, **{name: value})
    assert refused.value.field == name


@ADAPTERS
@ENDPOINTS
@pytest.mark.parametrize(
    ("said", "least"),
    [
        ({"max_tokens": 3}, 3),
        ({"max_completion_tokens": 4}, 4),
        ({"n_predict": 5}, 5),
        ({"max_tokens": 3, "n_predict": 100}, 3),
        ({"max_tokens": 7, "max_completion_tokens": 6, "n_predict": None}, 6),
        ({"max_tokens": 30, "max_completion_tokens": 60, "n_predict": 20}, 20),
    ],
)
def test_the_engine_gets_one_limit_the_least(
    adapter: RuntimeAdapter, endpoint: Endpoint, said: dict[str, Any], least: int
) -> None:
    arrived = sent(adapter, endpoint, **said)
    assert [arrived[name] for name in LIMITS if name in arrived] == [least]


@ADAPTERS
@ENDPOINTS
@pytest.mark.parametrize("value", [4_294_967_301, 10**12])
def test_a_limit_beyond_everything_is_no_small_one(
    adapter: RuntimeAdapter, endpoint: Endpoint, value: int
) -> None:
    arrived = sent(adapter, endpoint, max_tokens=value)
    assert spec(adapter).context_tokens <= arrived["max_tokens"] < 1 << 31


@ADAPTERS
@ENDPOINTS
@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("temperature", -0.1),
        ("temperature", 2.1),
        ("temperature", "hot"),
        ("top_p", -0.1),
        ("top_p", 1.1),
        ("frequency_penalty", 2.5),
        ("presence_penalty", -2.5),
        ("top_logprobs", -1),
        ("top_logprobs", 21),
        ("n", 0),
        ("n", -1),
        ("n", 129),
        ("n_probs", -1),
        ("n_probs", 10**9),
        ("logit_bias", {"hello": 1}),
        ("logit_bias", {"-1": 1}),
        ("logit_bias", {"1": 101}),
        ("logit_bias", {"4294967301": 1}),
        ("logit_bias", {"1": "much"}),
        ("logit_bias", [[1, 2]]),
        ("stop", ""),
        ("stop", [""]),
        ("stop", ["a", ""]),
        ("stop", 5),
    ],
)
def test_a_number_outside_is_refused_by_its_field(
    adapter: RuntimeAdapter, endpoint: Endpoint, name: str, value: Any
) -> None:
    with pytest.raises(BodyMalformed) as refused:
        sent(adapter, endpoint, **{name: value})
    assert (refused.value.field or "").startswith(name)


@ADAPTERS
@ENDPOINTS
def test_more_choices_than_slots_are_refused(adapter: RuntimeAdapter, endpoint: Endpoint) -> None:
    if adapter.name == "openai_compatible":
        # How much a server elsewhere does at once is not known here: by ability alone.
        with pytest.raises(CapabilityMissing):
            sent(adapter, endpoint, n=2)
        return
    assert sent(adapter, endpoint, n=2)["n"] == 2
    with pytest.raises(RequestRejected) as refused:
        sent(adapter, endpoint, n=3)
    assert refused.value.field == "n"


IDLE: tuple[dict[str, Any], ...] = (
    {"prediction": {"type": "content", "content": "x"}},
    {"store": True},
    {"store": False},
    {"metadata": {"a": "b"}},
    {"service_tier": "flex"},
    {"user": "u"},
    {"safety_identifier": "u"},
    {"prompt_cache_key": "k"},
    {"prompt_cache_retention": "24h"},
    {"verbosity": "medium"},
    {"modalities": ["text"]},
    {"best_of": 1},
    {"echo": False},
    {"suffix": ""},
    {"functions": None},
    {"audio": None},
)


@ADAPTERS
@ENDPOINTS
@pytest.mark.parametrize("idle", IDLE, ids=str)
def test_what_changes_nothing_is_taken_and_goes_no_further(
    adapter: RuntimeAdapter, endpoint: Endpoint, idle: dict[str, Any]
) -> None:
    assert sent(adapter, endpoint, **idle) == sent(adapter, endpoint)


REFUSED: tuple[dict[str, Any], ...] = (
    {"reasoning_effort": "low"},
    {"modalities": ["text", "audio"]},
    {"audio": {"voice": "alloy", "format": "wav"}},
    {"web_search_options": {}},
    {"verbosity": "low"},
    {"best_of": 2},
    {"echo": True},
    {"suffix": "end"},
)


@ADAPTERS
@ENDPOINTS
@pytest.mark.parametrize("asked", REFUSED, ids=str)
def test_what_no_runtime_does_is_refused_by_its_name_and_the_runtimes(
    adapter: RuntimeAdapter, endpoint: Endpoint, asked: dict[str, Any]
) -> None:
    [name] = asked
    if (adapter.name, endpoint, name) == ("openai_compatible", Endpoint.CHAT, "reasoning_effort"):
        assert sent(adapter, endpoint, **asked)[name] == "low"  # That server's to judge.
        return
    with pytest.raises(CapabilityMissing) as refused:
        sent(adapter, endpoint, **asked)
    assert refused.value.field == name
    assert adapter.name in refused.value.message


@ADAPTERS
@ENDPOINTS
@pytest.mark.parametrize("name", ["functions", "function_call", "n_cmpl"])
def test_another_name_of_what_has_one_is_refused(
    adapter: RuntimeAdapter, endpoint: Endpoint, name: str
) -> None:
    with pytest.raises(RequestRejected) as refused:
        sent(adapter, endpoint, **{name: "auto"})
    assert refused.value.field == name


@ADAPTERS
def test_no_thoughts_are_true_of_a_model_that_does_not_think(adapter: RuntimeAdapter) -> None:
    sent(adapter, Endpoint.CHAT, reasoning_effort="none")


OWN_CHILDREN = {
    "mistral_rs": {Endpoint.CHAT: asking.CHAT, Endpoint.COMPLETIONS: asking.TEXT},
    "transformers": {
        Endpoint.CHAT: transformers.HONOURED["text"][CHAT],
        Endpoint.COMPLETIONS: transformers.HONOURED["text"][COMPLETIONS],
    },
}
TAKEN: tuple[dict[str, Any], ...] = (
    *IDLE,
    *({name: 5} for name in LIMITS),
    {"reasoning_effort": "none"},
    {"temperature": 0.5},
    {"top_p": 0.5},
    {"stop": "x"},
    {"n": 2},
    {"frequency_penalty": 0.5},
    {"presence_penalty": 0.5},
    {"logit_bias": {"5": 1.5}},
    {"parallel_tool_calls": False},
    {"response_format": {"type": "json_object"}},
)


@pytest.mark.parametrize("runtime", OWN_CHILDREN)
@ENDPOINTS
@pytest.mark.parametrize("asked", TAKEN, ids=str)
def test_our_own_children_take_what_their_adapters_send(
    runtime: str, endpoint: Endpoint, asked: dict[str, Any]
) -> None:
    body = sent(adapters.load(runtime), endpoint, **asked)
    kind = CHAT if endpoint is Endpoint.CHAT else COMPLETIONS
    fields.check(kind, body, OWN_CHILDREN[runtime][endpoint])


@pytest.mark.parametrize("runtime", ["mistral_rs", "transformers", "vllm", "llama_cpp"])
@pytest.mark.parametrize(
    ("effort", "template", "told"),
    [
        ("none", "{{ enable_thinking }}<think>", True),
        ("low", "{{ enable_thinking }}<think>", False),
        ("much", "{{ reasoning_effort }}<think>", False),
    ],
)
def test_an_effort_reaches_a_template_that_knows_it_or_is_refused(
    runtime: str, effort: str, template: str, told: bool
) -> None:
    adapter = adapters.load(runtime)
    body = json.dumps({**BODIES[Endpoint.CHAT], "reasoning_effort": effort}).encode()
    asked = spec(adapter, chat_template=template)
    if told:
        arrived = json.loads(shaped(adapter, Endpoint.CHAT, body, asked).body)
        if runtime in OWN_CHILDREN:
            assert arrived["chat_template_kwargs"] == {"enable_thinking": False}
            fields.check(CHAT, arrived, OWN_CHILDREN[runtime][Endpoint.CHAT])
        return
    with pytest.raises((RequestRejected, CapabilityMissing)) as refused:
        shaped(adapter, Endpoint.CHAT, body, asked)
    assert getattr(refused.value, "field", "") == "reasoning_effort"


WAY = {
    "models": ["a"],
    "provider": {"only": ["ben"]},
    "route": "fallback",
    "transforms": [],
    "helexa": {"federation": False},
}


@ADAPTERS
@ENDPOINTS
def test_an_engine_never_sees_where_a_request_may_go(
    adapter: RuntimeAdapter, endpoint: Endpoint
) -> None:
    assert not WAY.keys() & sent(adapter, endpoint, **WAY).keys()


@pytest.mark.parametrize("endpoint", [Endpoint.EMBEDDINGS, Endpoint.RERANK])
def test_nor_does_one_that_makes_vectors_or_scores(endpoint: Endpoint) -> None:
    adapter = adapters.load("llama_cpp")
    wanted = replace(spec(adapter), files=replace(spec(adapter).files, pooling="rank"))
    body = {"model": "m", "input": "x", "query": "q", "documents": ["d"]}
    plain = json.dumps(body).encode()
    assert shaped(adapter, endpoint, plain, wanted).body == plain
    arrived = shaped(adapter, endpoint, json.dumps({**body, **WAY}).encode(), wanted).body
    assert json.loads(arrived) == body


CALL = {"id": "c", "type": "function", "function": {"name": "f", "arguments": "{nope"}}


@ADAPTERS
@pytest.mark.parametrize(
    ("message", "field"),
    [
        ({"role": "wizard", "content": "hi"}, "messages[1].role"),
        ({"role": "user"}, "messages[1].content"),
        ({"role": "tool", "tool_call_id": "c"}, "messages[1].content"),
        ({"role": "user", "content": [{"type": "text"}]}, "messages[1].content[0].text"),
        ({"role": "assistant", "tool_calls": [{"id": "c"}]}, "messages[1].tool_calls[0].function"),
    ],
)
def test_a_message_that_no_template_reads_is_refused_by_its_place(
    adapter: RuntimeAdapter, message: dict[str, Any], field: str
) -> None:
    with pytest.raises(BodyMalformed) as refused:
        sent(adapter, Endpoint.CHAT, messages=[*BODIES[Endpoint.CHAT]["messages"], message])
    assert refused.value.field == field


@ADAPTERS
def test_arguments_that_are_no_object_are_refused_where_a_template_reads_them(
    adapter: RuntimeAdapter,
) -> None:
    messages = [
        {"role": "user", "content": "hi"},
        {"role": "assistant", "tool_calls": [CALL]},
        {"role": "tool", "content": "r", "tool_call_id": "c"},
    ]
    if adapter.name == "openai_compatible":
        assert sent(adapter, Endpoint.CHAT, messages=messages)["messages"] == messages
        return
    with pytest.raises(BodyMalformed) as refused:
        sent(adapter, Endpoint.CHAT, messages=messages)
    assert refused.value.field == "messages[1].tool_calls[0].function.arguments"


@ADAPTERS
@ENDPOINTS
@pytest.mark.parametrize(
    ("said", "field"),
    [
        ({"top_k": "x"}, "top_k"),
        ({"min_p": []}, "min_p"),
        ({"repeat_penalty": {}}, "repeat_penalty"),
        ({"top_logprobs": 2}, "top_logprobs"),
    ],
)
def test_an_engines_own_numbers_are_numbers(
    adapter: RuntimeAdapter, endpoint: Endpoint, said: dict[str, Any], field: str
) -> None:
    with pytest.raises((BodyMalformed, CapabilityMissing)) as refused:
        sent(adapter, endpoint, **said)
    assert getattr(refused.value, "field", field) == field


@ADAPTERS
@ENDPOINTS
def test_a_form_that_an_engine_does_not_obey_is_refused_by_its_field(
    adapter: RuntimeAdapter, endpoint: Endpoint
) -> None:
    asked = {
        "guided_choice": (["a"], ("openai_compatible",)),
        "structured_outputs": ({"choice": ["a"]}, ("vllm", "openai_compatible")),
        "json_schema": ({"type": "object"}, ("llama_cpp", "openai_compatible")),
    }
    for name, (value, engines) in asked.items():
        if adapter.name in engines:
            assert name in sent(adapter, endpoint, **{name: value})
        else:
            with pytest.raises(CapabilityMissing) as refused:
                sent(adapter, endpoint, **{name: value})
            assert refused.value.field == name


@ENDPOINTS
@pytest.mark.parametrize(
    ("schema", "field"),
    [
        ({"$ref": "#/$defs/zzz"}, "json_schema.$ref"),
        ({"$ref": "#"}, "json_schema"),
    ],
)
def test_a_schema_is_checked_wherever_it_stands(
    endpoint: Endpoint, schema: dict[str, Any], field: str
) -> None:
    with pytest.raises(RequestRejected) as refused:
        sent(adapters.load("llama_cpp"), endpoint, json_schema=schema)
    assert refused.value.field == field


@ENDPOINTS
def test_an_engines_report_about_itself_is_not_for_clients(endpoint: Endpoint) -> None:
    assert not sent(adapters.load("llama_cpp"), endpoint, verbose=True).get("verbose")
