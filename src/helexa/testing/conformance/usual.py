"""The runtimes that this repository can try by itself, with the models that show most of them."""

from __future__ import annotations

import tempfile
from collections.abc import Awaitable, Callable, Mapping
from pathlib import Path
from typing import Final

from helexa.protocol.work import WorkloadClass
from helexa.runtime.contract import Capabilities
from helexa.testing.conformance import engines, models, rows
from helexa.testing.conformance.findings import Findings
from helexa.testing.conformance.run import conform, look
from helexa.testing.conformance.stage import CONTEXT_TOKENS, staged_fake
from helexa.testing.fake_runtime import FakeRuntime

PLAIN: Final = Capabilities(
    classes=(
        WorkloadClass.CHAT_INTERACTIVE,
        WorkloadClass.COMPLETION,
        WorkloadClass.EMBEDDING,
    )
)
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
        for model, row in (
            (models.THINKER, rows.REASONING),
            (models.EMBEDDER, rows.EMBEDDING),
        ):
            found.add(await look("llama_cpp", model, made, rows=(row.word,)))
    return found


LOOKS: Final[Mapping[str, Callable[[], Awaitable[Findings]]]] = {
    "fake": fake,
    "llama_cpp": llama_cpp,
}
