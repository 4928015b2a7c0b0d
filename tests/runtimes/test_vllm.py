"""The real vLLM, on a processor, behind the real neuron. One engine serves as many tests as may."""

from __future__ import annotations

import base64
import json
import math
import os
import re
import signal
import time
from array import array
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import psutil
import pytest
from tests.e2e.processes import started
from tests.runtimes.neurons import PATIENCE_S, TEXT, Bench, bench

from helexa.neuron.settings import ModelSettings, RuntimeSettings
from helexa.neuron.supervisor.weighing import group_bytes

DEMO = "helexa-demo"
SEEING = "helexa-demo-vision"
SENTENCES = "all-minilm-l6-v2"
RERANKER = "tiny-rerank"
ANSWER = (
    "helexa is a federated AI fabric: machines that run models join together and are used "
    "through one API."
)
REFERENCES = Path(__file__).parents[2] / "scripts" / "runtime_models" / "references"
COSINE_LEAST = 0.999
GONE_WITHIN_S = 20.0


def function(name: str, **properties: Any) -> dict[str, Any]:
    schema = {
        "type": "object",
        "properties": properties,
        "required": list(properties),
        "additionalProperties": False,
    }
    return {"type": "function", "function": {"name": name, "parameters": schema}}


WEATHER = function("get_weather", city={"enum": ["Paris", "Rome"]})
CLOCK = function("get_time", zone={"enum": [1, 2, 3]})


@pytest.fixture(scope="module")
def neuron(vllm_python: Path, models_dir: Path) -> Iterator[Bench]:
    runtimes = {"vllm": RuntimeSettings(python=vllm_python)}
    # Compiling takes longer than all these tests; f32 is what references were computed in.
    arguments = ("enforce_eager=true", "dtype=float32")
    lengths = {DEMO: 1024, SEEING: 1024, SENTENCES: 256, RERANKER: 128}
    models = {
        name: ModelSettings(runtime="vllm", slots=2, context_tokens=tokens, arguments=arguments)
        for name, tokens in lengths.items()
    }
    with bench(models_dir, runtimes=runtimes, models=models) as made:
        yield made


def awaited(happens: Callable[[], Any], within_s: float = GONE_WITHIN_S) -> Any:
    """What `happens` returns once it is true; the end of a stranger is no event of ours."""
    until = time.monotonic() + within_s
    while not (found := happens()):
        assert time.monotonic() < until, "it did not come about"
        time.sleep(0.05)
    return found


def members(group: int) -> list[int]:
    found = []
    for entry in Path("/proc").glob("[0-9]*"):
        try:
            state = (entry / "stat").read_text().rpartition(")")[2].split()
        except OSError:
            continue
        if int(state[2]) == group and state[0] != "Z":
            found.append(int(entry.name))
    return found


def shared_by(group: int) -> set[Path]:
    """Files of shared memory that its processes have in use."""
    maps = "".join(Path(f"/proc/{pid}/maps").read_text() for pid in members(group))
    return {Path(one) for one in re.findall(r"/dev/shm/psm_\w+", maps)}


# --- words


def test_it_answers_as_llama_cpp_does(neuron: Bench) -> None:
    assert neuron.chat(DEMO, "What is helexa?").text == ANSWER


def test_a_stream_is_many_events_and_ends_with_its_usage(neuron: Bench) -> None:
    asked = {"stream": True, "stream_options": {"include_usage": True}}
    events = neuron.chat(DEMO, "What is helexa?", **asked).events
    words = [one["choices"][0]["delta"].get("content") for one in events if one["choices"]]
    assert "".join(word or "" for word in words) == ANSWER
    assert len([word for word in words if word]) > 5
    usage = events[-1]["usage"]
    assert usage["prompt_tokens"] + usage["completion_tokens"] == usage["total_tokens"]
    assert [one for one in events if one.get("usage")] == events[-1:]


def test_what_was_read_before_is_counted_as_such(neuron: Bench) -> None:
    long = "What is helexa? " * 100
    first = neuron.chat(DEMO, long, max_tokens=2).json["usage"]
    again = neuron.chat(DEMO, long, max_tokens=2).json["usage"]
    assert first["prompt_tokens"] == again["prompt_tokens"] > 256
    assert again["prompt_tokens_details"]["cached_tokens"] >= 256


def test_two_choices_are_two_and_a_seed_repeats_them(neuron: Bench) -> None:
    asked: dict[str, Any] = {"n": 2, "seed": 7, "temperature": 1.5, "max_tokens": 12}
    first, again = (neuron.chat(DEMO, "Tell me a joke.", **asked).json for _ in range(2))
    texts = [[one["message"]["content"] for one in each["choices"]] for each in (first, again)]
    assert len(texts[0]) == 2
    assert texts[0] == texts[1]
    assert first["usage"]["completion_tokens"] <= 24


def test_probabilities_come_with_as_many_others_as_were_asked_for(neuron: Bench) -> None:
    reply = neuron.chat(DEMO, "What is helexa?", logprobs=True, top_logprobs=3, max_tokens=4)
    content = reply.json["choices"][0]["logprobs"]["content"]
    assert len(content) == 4
    assert all(len(one["top_logprobs"]) == 3 and one["logprob"] <= 0 for one in content)


def test_an_assistants_last_message_is_gone_on_with(neuron: Bench) -> None:
    head = "helexa is a federated AI"
    messages = [
        {"role": "user", "content": "What is helexa?"},
        {"role": "assistant", "content": head},
    ]
    rest = neuron.chat(DEMO, "", messages=messages, continue_final_message=True)
    assert head + rest.text == ANSWER


def test_a_prompt_of_ids_is_read_as_it_is(neuron: Bench) -> None:
    body = {"model": DEMO, "prompt": [70, 71, 72, 73], "max_tokens": 6, "temperature": 0}
    first, again = neuron.ask(TEXT, body), neuron.ask(TEXT, body)
    assert first.json["usage"]["prompt_tokens"] == 4
    assert first.json["choices"][0]["text"] == again.json["choices"][0]["text"]


def test_requests_at_once_do_not_mix(neuron: Bench) -> None:
    questions = {"What is helexa?": ANSWER, "Which port does the portal use?": "8091"}
    connections = []
    for question in [*questions] * 2:
        messages = [{"role": "user", "content": question}]
        body = {"model": DEMO, "messages": messages, "temperature": 0, "max_tokens": 64}
        connection = neuron.connected()
        connection.request("POST", "/v1/chat/completions", json.dumps(body))
        connections.append((question, connection))
    for question, connection in connections:
        said = json.loads(connection.getresponse().read())["choices"][0]["message"]["content"]
        assert questions[question] in said
        connection.close()


# --- shapes


@pytest.mark.parametrize("stream", [False, True])
def test_a_named_function_is_called_with_arguments_that_fit(neuron: Bench, *, stream: bool) -> None:
    choice = {"type": "function", "function": {"name": "get_time"}}
    asked: dict[str, Any] = {"tools": [WEATHER, CLOCK], "tool_choice": choice, "stream": stream}
    reply = neuron.chat(DEMO, "Hello", **asked)
    if not stream:
        [(name, arguments)] = reply.calls
    else:
        parts = [
            call["function"]
            for event in reply.events
            for one in event["choices"]
            for call in one["delta"].get("tool_calls") or ()
        ]
        name = "".join(part.get("name") or "" for part in parts)
        arguments = json.loads("".join(part.get("arguments") or "" for part in parts))
    assert name == "get_time"
    assert arguments["zone"] in (1, 2, 3)


def test_a_call_that_is_required_comes(neuron: Bench) -> None:
    asked: dict[str, Any] = {"tools": [WEATHER], "tool_choice": "required", "max_tokens": 200}
    reply = neuron.chat(DEMO, "Hello", **asked)
    for name, arguments in reply.calls:
        assert name == "get_weather"
        assert arguments["city"] in ("Paris", "Rome")
    assert reply.calls
    assert reply.json["choices"][0]["finish_reason"] == "tool_calls"


def test_a_schema_holds(neuron: Bench) -> None:
    schema = {
        "type": "object",
        "properties": {"kind": {"enum": ["neuron", "cortex"]}, "ok": {"type": "boolean"}},
        "required": ["kind", "ok"],
        "additionalProperties": False,
    }
    wanted = {"type": "json_schema", "json_schema": {"name": "x", "strict": True, "schema": schema}}
    found = json.loads(neuron.chat(DEMO, "Hello", response_format=wanted).text)
    assert found["kind"] in ("neuron", "cortex")
    assert found["ok"] in (True, False)


def test_an_object_is_one(neuron: Bench) -> None:
    wanted = {"type": "json_object"}
    reply = neuron.chat(DEMO, "Hello", response_format=wanted, max_tokens=300)
    assert reply.text.startswith("{")


def test_a_grammar_holds(neuron: Bench) -> None:
    reply = neuron.chat(DEMO, "What is helexa?", grammar='root ::= "yes" | "no"')
    assert reply.text in ("yes", "no")


def test_a_grammar_that_is_none_is_the_clients_mistake(neuron: Bench) -> None:
    assert neuron.chat(DEMO, "Hello", grammar="root ::= (").status == 400


# --- refusals


def test_too_long_a_prompt_is_told_the_numbers(neuron: Bench) -> None:
    reply = neuron.chat(DEMO, "What is helexa? " * 1000)
    assert reply.status == 400
    assert reply.error["code"] == "context_length_exceeded"
    assert "1024" in reply.error["message"]


def test_more_tokens_than_there_is_room_for_are_as_many_as_there_is_room(neuron: Bench) -> None:
    assert neuron.chat(DEMO, "What is helexa?", max_tokens=1024).text == ANSWER


@pytest.mark.parametrize(
    "more",
    [
        {"temperature": -1},
        {"n": 0},
        {"chat_template": "{{ 1 }}"},
        {"tools": [WEATHER], "tool_choice": {"type": "function", "function": {"name": "nope"}}},
    ],
)
def test_what_the_engine_refuses_is_a_400_in_its_words(neuron: Bench, more: Any) -> None:
    reply = neuron.chat(DEMO, "Hello", **more)
    assert reply.status == 400
    assert reply.error["message"]
    assert "parameter=" not in reply.error["message"]


def test_a_picture_is_refused_before_the_engine_hears_of_it(
    neuron: Bench, colours: dict[str, str]
) -> None:
    part = {"type": "image_url", "image_url": {"url": next(iter(colours.values()))}}
    reply = neuron.chat(DEMO, [part])
    assert reply.status == 400
    assert "image" in reply.error["message"]


# --- the process


def test_a_client_that_leaves_frees_the_engine(neuron: Bench) -> None:
    neuron.chat(DEMO, "Hello", max_tokens=1)
    body = {
        "model": DEMO,
        "messages": [{"role": "user", "content": "Hello"}],
        "stream": True,
        "max_tokens": 900,
        "ignore_eos": True,
    }
    connection = neuron.connected()
    connection.request("POST", "/v1/chat/completions", json.dumps(body))
    answer = connection.getresponse()
    assert answer.read(64)
    assert running(neuron) == 1
    answer.close()
    connection.close()
    awaited(lambda: running(neuron) == 0, within_s=5.0)


def running(neuron: Bench) -> int | None:
    """Requests that the engine works on, in its own words."""
    engine = neuron.engine(DEMO)
    assert engine is not None

    async def asked() -> bytes:
        with await engine.pool.request("GET", "/metrics", engine.plan.headers) as response:
            return await response.read(1 << 20)

    load = neuron.portal.call(asked)
    adapter: Any = engine.adapter
    found: int | None = adapter.load(load).running
    return found


def test_its_footprint_is_foretold_within_a_fifth(neuron: Bench) -> None:
    neuron.chat(DEMO, "What is helexa? " * 60, max_tokens=4)
    engine = neuron.engine(DEMO)
    assert engine is not None
    estimated = engine.adapter.footprint(engine.spec).use
    measured = group_bytes(engine.process.pid)
    assert abs(estimated - measured) / measured < 0.2, (estimated >> 20, measured >> 20)


def test_killed_it_leaves_nothing_and_comes_back(neuron: Bench) -> None:
    """Its processes go on for ever by themselves when the first one is killed."""
    neuron.chat(DEMO, "Hello", max_tokens=1)
    engine = neuron.engine(DEMO)
    assert engine is not None
    group = engine.process.pid
    assert len(members(group)) >= 4
    shared = shared_by(group)
    assert shared
    os.kill(group, signal.SIGKILL)
    awaited(lambda: not members(group))
    assert neuron.chat(DEMO, "What is helexa?").text == ANSWER
    again = neuron.engine(DEMO)
    assert again is not None
    assert again.process.pid != group
    assert not [one for one in shared if one.exists()]


def test_unloaded_it_leaves_neither_processes_nor_shared_memory(neuron: Bench) -> None:
    neuron.chat(DEMO, "Hello", max_tokens=1)
    engine = neuron.engine(DEMO)
    assert engine is not None
    shared = shared_by(engine.process.pid)
    assert shared
    neuron.unload(DEMO)
    assert not members(engine.process.pid)
    assert not [one for one in shared if one.exists()]


# --- vectors and scores, held against what transformers computes


def cosine(one: Sequence[float], other: Sequence[float]) -> float:
    dot = sum(a * b for a, b in zip(one, other, strict=True))
    return dot / (math.hypot(*one) * math.hypot(*other))


def test_vectors_are_those_of_the_reference(neuron: Bench) -> None:
    reference = json.loads((REFERENCES / f"{SENTENCES}.json").read_text())
    body = {"model": SENTENCES, "input": reference["sentences"]}
    floats = neuron.ask("/v1/embeddings", body).json
    packed = neuron.ask("/v1/embeddings", {**body, "encoding_format": "base64"}).json
    assert floats["usage"]["prompt_tokens"] > len(reference["sentences"])
    for at, wanted in enumerate(reference["vectors"]):
        found = floats["data"][at]["embedding"]
        assert cosine(found, wanted) >= COSINE_LEAST
        same = array("f", base64.b64decode(packed["data"][at]["embedding"]))
        assert cosine(same, found) >= 0.99999


def test_an_input_that_is_too_long_to_embed_is_refused(neuron: Bench) -> None:
    reply = neuron.ask("/v1/embeddings", {"model": SENTENCES, "input": "long words " * 400})
    assert reply.status == 400
    assert reply.error["code"] == "context_length_exceeded"


def test_a_model_that_embeds_does_not_chat(neuron: Bench) -> None:
    assert neuron.chat(SENTENCES, "Hello").status == 400


def test_documents_are_ranked_as_by_the_reference(neuron: Bench) -> None:
    for case in json.loads((REFERENCES / f"{RERANKER}.json").read_text()):
        body = {"model": RERANKER, "query": case["query"], "documents": case["documents"]}
        reply = neuron.ask("/v1/rerank", body)
        assert reply.status == 200, reply.content
        found = {one["index"]: one["relevance_score"] for one in reply.json["results"]}
        for at, score in enumerate(case["scores"]):
            assert abs(found[at] - score) < 0.01


# --- pictures


def test_pictures_are_seen(neuron: Bench, colours: dict[str, str]) -> None:
    right = 0
    for colour, url in colours.items():
        parts = [
            {"type": "image_url", "image_url": {"url": url}},
            {"type": "text", "text": "What do you see?"},
        ]
        right += colour in neuron.chat(SEEING, parts).text
    assert right >= len(colours) - 1


# --- a neuron that is killed


def test_a_killed_neuron_leaves_no_process_of_it(
    vllm_python: Path, models_dir: Path, tmp_path: Path
) -> None:
    """While it loads, which is when it has as many as ever."""
    config = tmp_path / "neuron.toml"
    config.write_text(
        f'[neuron.models.{DEMO}]\nruntime = "vllm"\narguments = ["enforce_eager=true"]\n'
        f'[neuron.runtimes.vllm]\npython = "{vllm_python}"\n'
    )
    with started(
        "neuron",
        *("--config", str(config)),
        *("--home", str(tmp_path / "home")),
        *("--models-dir", str(models_dir)),
        *("--control-socket", "127.0.0.1:0"),
        *("--api-socket", "127.0.0.1:0"),
        *("--set", "neuron.demo_models=false"),
        *("--set", f"neuron.preload={DEMO}"),
        cwd=tmp_path,
    ) as node:
        assert node.ready
        me = psutil.Process(node.process.pid)
        workers = awaited(lambda: named(me, "VLLM::"), within_s=PATIENCE_S)
        family = me.children(recursive=True)
        node.process.kill()
        assert workers
        _, alive = psutil.wait_procs(family, timeout=GONE_WITHIN_S)
        assert not [one for one in alive if one.status() != psutil.STATUS_ZOMBIE]


def named(process: psutil.Process, title: str) -> list[psutil.Process]:
    found = []
    for one in process.children(recursive=True):
        with suppress(psutil.Error):
            if any(title in word for word in one.cmdline()):
                found.append(one)
    return found
