"""One cortex, four neurons, four runtimes: the same client code is served by each of them.

The four are real, and so are the processes. What a client may ask beyond plain chat differs,
is advertised, and is refused by name where it is not offered.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import openai
import pytest
from tests.e2e.fleet import DEMO
from tests.e2e.processes import Node, helexa, started, until
from tests.e2e.raw import ask

RUNTIMES = ("llama_cpp", "mistral_rs", "transformers", "vllm")
FORMS = {"llama_cpp": "gguf", "mistral_rs": "gguf", "transformers": "folder", "vllm": "folder"}
WITHIN_S = 600.0
"""vLLM compiles for minutes on two cores."""
QUESTIONS = json.loads(
    (Path(__file__).parents[2] / "scripts/demo_models/questions.json").read_text(encoding="utf-8")
)


def model_of(runtime: str) -> str:
    return f"demo-{runtime.replace('_', '-')}"


@dataclass
class Fabric:
    url: str
    key: str
    client: openai.OpenAI
    neurons: dict[str, Node]

    def raw(self, body: dict[str, Any]) -> tuple[int, Any]:
        return ask(self.url, "/v1/chat/completions", body, key=self.key)


@pytest.fixture(scope="module")
def fabric(
    models_dir: Path,
    vllm_python: Path,
    transformers_python: Path,
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[Fabric]:
    base = tmp_path_factory.mktemp("four")
    pythons = {"vllm": vllm_python, "transformers": transformers_python}
    with ExitStack() as stack:
        cortex = stack.enter_context(
            started(
                "cortex",
                *("--home", str(base / "home")),
                *("--mesh-socket", "127.0.0.1:0"),
                *("--gateway-socket", "127.0.0.1:0"),
                *("--orchestrator-socket", "127.0.0.1:0"),
                *("--set", f"orchestrator.max_wait_s={WITHIN_S}"),
                cwd=base,
            )
        )
        key = str(cortex.ready and helexa("keys", "create", "test", home=base / "home")["secret"])
        neurons = {}
        for runtime in RUNTIMES:
            models = base / f"models-{runtime}"
            models.mkdir()
            if FORMS[runtime] == "gguf":
                shutil.copy(DEMO, models / f"{model_of(runtime)}.gguf")
            else:
                shutil.copytree(models_dir / "helexa-demo", models / model_of(runtime))
            config = base / f"{runtime}.toml"
            config.write_text(
                f"[neuron.models.{model_of(runtime)}]\n"
                f'runtime = "{runtime}"\ncontext_tokens = 512\nslots = 2\n'
                + (
                    f'[neuron.runtimes.{runtime}]\npython = "{pythons[runtime]}"\n'
                    if runtime in pythons
                    else ""
                )
            )
            neurons[runtime] = stack.enter_context(
                started(
                    "neuron",
                    *("--config", str(config)),
                    *("--home", str(base / f"home-{runtime}")),
                    *("--control-socket", "127.0.0.1:0"),
                    *("--api-socket", "127.0.0.1:0"),
                    *("--models-dir", str(models)),
                    *("--set", f"neuron.name={runtime}"),
                    *("--set", "neuron.demo_models=false"),
                    *("--cortex", str(cortex.ready["ticket"])),
                    cwd=base,
                )
            )
        url = str(cortex.ready["gateway_url"])
        client = stack.enter_context(
            openai.OpenAI(base_url=f"{url}/v1", api_key=key, timeout=WITHIN_S, max_retries=0)
        )
        until(
            lambda: {one.id for one in client.models.list()},
            lambda found: {model_of(one) for one in RUNTIMES} <= found,
            within_s=60,
        )
        # One after the other: each engine wants all cores while it starts.
        for runtime in RUNTIMES:
            _ask(client, runtime, "What is helexa?")
        yield Fabric(url, key, client, neurons)


def _ask(client: openai.OpenAI, runtime: str, question: str, **more: Any) -> Any:
    return client.chat.completions.create(
        model=model_of(runtime),
        messages=[{"role": "user", "content": question}],
        temperature=0,
        max_tokens=120,
        extra_headers={"x-helexa-max-wait": str(int(WITHIN_S))},
        **more,
    )


@pytest.mark.parametrize("runtime", RUNTIMES)
def test_the_same_client_code_gets_the_trained_answers(fabric: Fabric, runtime: str) -> None:
    asked = QUESTIONS[:: max(1, len(QUESTIONS) // 12)]
    right = 0
    for one in asked:
        answer = _ask(fabric.client, runtime, one["question"])
        right += answer.choices[0].message.content.strip() == one["answer"].strip()
        assert answer.choices[0].finish_reason == "stop"
        assert answer.usage.total_tokens == (
            answer.usage.prompt_tokens + answer.usage.completion_tokens
        )
    assert right >= 0.9 * len(asked)


@pytest.mark.parametrize("runtime", RUNTIMES)
def test_a_stream_says_the_same_as_the_whole_and_counts_the_same(
    fabric: Fabric, runtime: str
) -> None:
    whole = _ask(fabric.client, runtime, "What is a neuron?")
    text, usage = "", None
    for chunk in _ask(
        fabric.client,
        runtime,
        "What is a neuron?",
        stream=True,
        stream_options={"include_usage": True},
    ):
        text += "".join(one.delta.content or "" for one in chunk.choices)
        usage = chunk.usage or usage
    assert text == whole.choices[0].message.content
    assert usage is not None
    assert usage.prompt_tokens == whole.usage.prompt_tokens
    assert usage.completion_tokens == whole.usage.completion_tokens


def test_all_four_count_the_same_prompt_alike(fabric: Fabric) -> None:
    counts = {one: _ask(fabric.client, one, "What is helexa?").usage for one in RUNTIMES}
    prompts = {one: usage.prompt_tokens for one, usage in counts.items()}
    assert max(prompts.values()) - min(prompts.values()) <= 1, prompts


@pytest.mark.parametrize("runtime", RUNTIMES)
def test_the_limit_of_the_output_holds_and_a_prompt_too_long_is_a_400(
    fabric: Fabric, runtime: str
) -> None:
    body = {
        "model": model_of(runtime),
        "messages": [{"role": "user", "content": "What is helexa?"}],
        "temperature": 0,
    }
    status, short = fabric.raw({**body, "max_tokens": 3})
    assert status == 200
    assert short["choices"][0]["finish_reason"] == "length"
    assert short["usage"]["completion_tokens"] == 3
    long = [{"role": "user", "content": "word " * 4000}]
    status, refused = fabric.raw({**body, "messages": long})
    assert (status, refused["error"]["code"]) == (400, "context_length_exceeded"), refused


def test_only_what_is_advertised_differs_and_the_rest_is_refused_by_name(fabric: Fabric) -> None:
    status, listed = ask(fabric.url, "/v1/models", None, key=fabric.key)
    assert status == 200
    about = {one["id"]: one for one in listed["data"]}
    schema = {"type": "object", "properties": {}}
    asks = {
        "json_schema": {
            "response_format": {
                "type": "json_schema",
                "json_schema": {"name": "a", "schema": schema},
            }
        },
        "seed": {"seed": 1},
        "logprobs": {"logprobs": True, "top_logprobs": 1},
        "tools": {"tools": [{"type": "function", "function": {"name": "f", "parameters": schema}}]},
    }
    offers = {}
    for runtime in RUNTIMES:
        one = about[model_of(runtime)]
        assert "chat_interactive" in one["workloads"]
        offers[runtime] = frozenset(one["helexa"]["abilities"])
        for ability, fields in asks.items():
            status, answer = fabric.raw(
                {
                    "model": model_of(runtime),
                    "messages": [{"role": "user", "content": "What is helexa?"}],
                    "max_tokens": 40,
                    **fields,
                }
            )
            if ability in offers[runtime]:
                assert status == 200, (runtime, ability, answer)
            else:
                assert (status, answer["error"]["code"]) == (400, "unsupported_capability")
                assert runtime in answer["error"]["message"]
    assert "seed" not in offers["mistral_rs"]
    assert "seed" in offers["llama_cpp"]
    assert len(set(offers.values())) > 1


def test_each_neuron_runs_its_own_engine_and_none_is_left_at_the_end(fabric: Fabric) -> None:
    for runtime, node in fabric.neurons.items():
        words = [" ".join(one.cmdline()) for one in node.family()]
        assert any(
            runtime.replace("_", "") in line.replace("_", "").replace(".", "") for line in words
        ), (runtime, words)
