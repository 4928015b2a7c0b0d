"""What the real engine did for a request, counted: nothing for free, and nothing twice."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from tests.neuron.test_app import ask
from tests.neuron.test_real_runtime import CHAT, chat, neuron

from helexa.neuron.models.store import DEMO_FOLDER
from helexa.neuron.settings import ModelSettings
from helexa.testing import gguf_copies
from helexa.util.upstream import Pool

pytestmark = pytest.mark.anyio

TEXT = "/v1/completions"
SERVED = {"demo": ModelSettings(slots=4, context_tokens=512)}
LONG = "Count to ten."


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("counts-models")
    gguf_copies.write(DEMO_FOLDER / "helexa-demo.gguf", folder / "demo.gguf", {})
    return folder


async def usage(pool: Pool, stream: bool, **body: Any) -> dict[str, Any]:
    options = {"stream": True, "stream_options": {"include_usage": True}} if stream else {}
    said = {"model": "demo", "max_tokens": 20, "temperature": 0, "seed": 1, **options, **body}
    reply = await ask(pool, "POST", TEXT, said)
    assert reply.status == 200, reply.content
    assert b'"timings"' not in reply.content
    found: dict[str, Any] = (reply.events[-2] if stream else reply.json)["usage"]
    assert "fault" not in found
    return found


@pytest.mark.parametrize("n", [1, 2])
@pytest.mark.parametrize("stream", [False, True])
async def test_several_prompts_are_the_sum_of_each_alone(
    tmp_path: Path, models: Path, stream: bool, n: int
) -> None:
    prompts = ["What is helexa?", LONG, "Hello!"]
    async with neuron(tmp_path, models, SERVED) as (_, pool):
        alone = [await usage(pool, stream, prompt=one, ignore_eos=True) for one in prompts]
        many = await usage(pool, stream, prompt=prompts, n=n, ignore_eos=True)
        twelve = await usage(pool, stream, prompt=prompts[:1] * 12, n=n, ignore_eos=True)
    assert many["prompt_tokens"] == sum(one["prompt_tokens"] for one in alone)
    assert many["completion_tokens"] == n * len(prompts) * 20
    assert twelve["prompt_tokens"] == 12 * alone[0]["prompt_tokens"]
    assert twelve["completion_tokens"] == n * 12 * 20


@pytest.mark.parametrize(
    ("limits", "most"),
    [
        ({"max_tokens": 3, "n_predict": 24}, 3),
        ({"max_completion_tokens": 4}, 4),
        ({"n_predict": 5}, 5),
        ({"max_tokens": 4_294_967_301}, None),
        ({"max_tokens": 10**12}, None),
    ],
)
async def test_the_least_limit_is_kept_and_what_was_made_is_counted(
    tmp_path: Path, models: Path, limits: dict[str, int], most: int | None
) -> None:
    body = chat("demo", LONG, ignore_eos=True)
    del body["max_tokens"]
    async with neuron(tmp_path, models, SERVED) as (_, pool):
        reply = await ask(pool, "POST", CHAT, {**body, **limits})
    used = reply.json["usage"]
    assert "fault" not in used
    assert b'"timings"' not in reply.content
    if most is None:
        assert used["total_tokens"] == 512
    else:
        assert used["completion_tokens"] == most


@pytest.mark.parametrize("name", ["max_tokens", "max_completion_tokens", "n_predict"])
@pytest.mark.parametrize("value", [0, -1])
async def test_no_answer_without_an_end_is_to_be_had(
    tmp_path: Path, models: Path, name: str, value: int
) -> None:
    body = chat("demo", LONG)
    del body["max_tokens"]
    async with neuron(tmp_path, models, SERVED) as (_, pool):
        reply = await ask(pool, "POST", CHAT, {**body, name: value})
    assert (reply.status, reply.error["code"], reply.error["param"]) == (400, "invalid_body", name)
