"""The runtimes that this repository can try by itself, with the models that show most of them."""

from __future__ import annotations

import tempfile
from collections.abc import Awaitable, Callable, Collection, Mapping
from pathlib import Path
from typing import Final

from helexa.neuron.settings import ModelSettings, ServerSettings
from helexa.protocol.work import WorkloadClass
from helexa.runtime.contract import Capabilities
from helexa.testing.conformance import engines, models, rows
from helexa.testing.conformance.findings import Findings
from helexa.testing.conformance.run import conform, look
from helexa.testing.conformance.stage import CONTEXT_TOKENS, SLOTS, staged, staged_fake
from helexa.testing.fake_runtime import FakeRuntime

PLAIN: Final = Capabilities(
    classes=(
        WorkloadClass.CHAT_INTERACTIVE,
        WorkloadClass.COMPLETION,
        WorkloadClass.EMBEDDING,
    )
)
_CUT: Final = ModelSettings(slots=SLOTS, context_tokens=CONTEXT_TOKENS, dimensions=(8,))
HONEST: Final = FakeRuntime(flags={"m": ("--echoes", str(CONTEXT_TOKENS))}, offered=PLAIN)


async def fake() -> Findings:
    async with staged_fake(HONEST) as subject:
        found = await conform(subject)
    found.engine = "a child that echoes"
    return found


async def llama_cpp() -> Findings:
    found = await look("llama_cpp", "helexa-demo")
    found.engine = engines.version("llama_cpp")
    found.add(await look("llama_cpp", "helexa-demo-vision", rows=(rows.VISION.word,)))
    with tempfile.TemporaryDirectory(prefix="hx-") as folder:
        made = models.write(Path(folder))
        for model, wanted in (
            (models.THINKER, (rows.REASONING.word,)),
            (models.EMBEDDER, (rows.EMBEDDING.word, rows.DIMENSIONS.word)),
            (models.RANKER, (rows.RERANK.word,)),
        ):
            found.add(await look("llama_cpp", model, made, rows=wanted, served=_CUT))
    return found


async def mistral_rs() -> Findings:
    found = await look("mistral_rs", "helexa-demo")
    found.engine = engines.version("mistral_rs")
    with tempfile.TemporaryDirectory(prefix="hx-") as folder:
        made = models.write(Path(folder))
        found.add(await look("mistral_rs", models.THINKER, made, rows=(rows.REASONING.word,)))
    return found


async def openai_compatible() -> Findings:
    """Another neuron, which has llama.cpp, as anybody's server."""
    found = await _through("helexa-demo")
    found.engine = "a neuron with llama_cpp"
    found.add(await _through("helexa-demo-vision", rows=(rows.VISION.word,)))
    with tempfile.TemporaryDirectory(prefix="hx-") as folder:
        made = models.write(Path(folder))
        for model, row in (
            (models.THINKER, rows.REASONING),
            (models.EMBEDDER, rows.EMBEDDING),
            (models.RANKER, rows.RERANK),
        ):
            found.add(await _through(model, made, rows=(row.word,)))
    return found


async def _through(
    model: str, models_dir: Path | None = None, rows: Collection[str] = ()
) -> Findings:
    """The model on one neuron, looked at on another, under another name."""
    async with staged(model, runtime="llama_cpp", models_dir=models_dir) as there:
        # The names of these models say what is known of them.
        here = f"{model}-elsewhere"
        server = ServerSettings(url=f"http://{there.client.label}/v1", models={here: model})
        return await look("openai_compatible", here, rows=rows, more={"servers": {"there": server}})


LOOKS: Final[Mapping[str, Callable[[], Awaitable[Findings]]]] = {
    "fake": fake,
    "llama_cpp": llama_cpp,
    "mistral_rs": mistral_rs,
    "openai_compatible": openai_compatible,
}
