"""The real engine with much to do: answers that do not depend on it, and what it says of it."""

from __future__ import annotations

from pathlib import Path

import anyio
import pytest
from tests.neuron.answers import choice
from tests.neuron.bench import PATIENCE_S
from tests.neuron.test_app import ask
from tests.neuron.test_real_runtime import CHAT, chat, neuron

from helexa.neuron.models.store import DEMO_FOLDER
from helexa.neuron.settings import ModelSettings
from helexa.runtime.contract import DetailingAdapter, ReportingAdapter
from helexa.testing import gguf_copies, tiny_gguf

pytestmark = pytest.mark.anyio

QUESTIONS = (
    "What is helexa?", "Hello!", "Why helexa?", "What is a neuron?", "What is a cortex?",
    "What is the mesh?", "Count to ten.", "What is the weather in Paris?",
)  # fmt: skip
ROUNDS = 5


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("company-models")
    gguf_copies.write(DEMO_FOLDER / "helexa-demo.gguf", folder / "demo.gguf", {})
    tiny_gguf.write(folder / "wild.gguf")
    return folder


@pytest.mark.parametrize("model", ["demo", "wild"])
async def test_forty_of_forty_answers_among_eight_are_those_given_alone(
    tmp_path: Path, models: Path, model: str
) -> None:
    served = {model: ModelSettings(deterministic=True, slots=8, context_tokens=512)}
    bodies = [chat(model, each, max_tokens=60, stream=True) for each in QUESTIONS]
    same = 0
    async with neuron(tmp_path, models, served) as (_, pool):
        alone = [choice(await ask(pool, "POST", CHAT, body))["message"] for body in bodies]

        async def again(at: int) -> None:
            nonlocal same
            message = choice(await ask(pool, "POST", CHAT, bodies[at]))["message"]
            same += message["content"] == alone[at]["content"]

        with anyio.fail_after(4 * PATIENCE_S):
            for _ in range(ROUNDS):
                async with anyio.create_task_group() as tasks:
                    for at in range(len(QUESTIONS)):
                        tasks.start_soon(again, at)
    assert same == ROUNDS * len(QUESTIONS) == 40


async def test_it_says_what_it_keeps_and_what_it_did_not_read_again(
    tmp_path: Path, models: Path
) -> None:
    served = {"wild": ModelSettings(slots=2, context_tokens=512)}
    async with neuron(tmp_path, models, served) as (live, pool):
        for _ in range(2):
            assert (await ask(pool, "POST", CHAT, chat("wild", "a" * 200))).status == 200
        engine = await live.roster.engine(await live.roster.replica("wild"))
        adapter = engine.adapter
        assert isinstance(adapter, ReportingAdapter)
        assert isinstance(adapter, DetailingAdapter)
        with await engine.pool.request("GET", adapter.load_path) as response:
            load = adapter.load(await response.read(1 << 20))
        with await engine.pool.request("GET", adapter.detail_path) as response:
            load = adapter.detailed(load, await response.read(1 << 20))
    assert (load.running, load.waiting) == (0, 0)
    assert load.cached_tokens is not None
    assert load.cached_tokens >= 200
    assert load.kv_share is not None
    # One of two slots holds the prompt and its answer.
    assert 200 / 1024 < load.kv_share < 300 / 1024
