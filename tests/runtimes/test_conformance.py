"""The conformance suite on the engines that have environments of their own.

`--write-matrix` keeps what was found in docs/runtimes. The table is printed at the end of the run.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import anyio
import pytest
from tests.runtimes.conftest import FOUND

from helexa.neuron.settings import RuntimeSettings
from helexa.testing.conformance import Findings, Verdict, engines, look, page
from helexa.testing.conformance.rows import DIMENSIONS, EMBEDDING, RERANK, ROWS, VISION, Row
from helexa.testing.conformance.stage import CONTEXT_TOKENS, usually

FOLDER = Path(__file__).parents[2] / "docs" / "runtimes"
RUNTIMES = ("vllm", "transformers")
ARGUMENTS = {"vllm": ("enforce_eager=true",)}
"""Compiling takes minutes, and shows nothing of what is looked at here."""
MODELS = (
    ("helexa-demo", (), CONTEXT_TOKENS),
    ("helexa-demo-vision", (VISION.word,), CONTEXT_TOKENS),
    ("all-minilm-l6-v2", (EMBEDDING.word, DIMENSIONS.word), 256),
    ("tiny-rerank", (RERANK.word,), 256),
)
"""With the rows that each is loaded for, and what it can read. The first is for all rows."""
PATIENCE_S = 900.0
"""A killed engine loads again while a request waits for it."""

pytestmark = pytest.mark.timeout(3600)


@dataclass
class Looks:
    """Each runtime is looked at once, by whoever asks first."""

    request: pytest.FixtureRequest
    models_dir: Path

    def of(self, runtime: str) -> Findings:
        kept = self.request.config.stash.setdefault(FOUND, {})
        if runtime not in kept:
            # Kept although it may break off: the next test must not wait for it once more.
            kept[runtime] = Findings(runtime=runtime)
            kept[runtime] = anyio.run(self._look, runtime, backend_options={"use_uvloop": True})
            if self.request.config.getoption("--write-matrix"):
                page.keep(kept[runtime], FOLDER / page.JSON_NAME)
                page.rewrite(FOLDER)
        found: Findings = kept[runtime]
        assert found.outcomes, f"nothing was found of {runtime}; the first test of it says why"
        return found

    async def _look(self, runtime: str) -> Findings:
        python: Path = self.request.getfixturevalue(f"{runtime}_python")
        own = {"runtimes": {runtime: RuntimeSettings(python=python)}, "demo_models": False}
        arguments = ARGUMENTS.get(runtime, ())
        found = Findings(runtime=runtime, engine=engines.version(runtime, python))
        for model, rows, context_tokens in MODELS:
            served = usually(arguments, dimensions=(8,), context_tokens=context_tokens)
            found.add(
                await look(
                    runtime,
                    model,
                    self.models_dir,
                    rows=rows,
                    served=served,
                    more=own,
                    patience_s=PATIENCE_S,
                )
            )
        return found


@pytest.fixture(scope="module")
def looks(request: pytest.FixtureRequest, models_dir: Path) -> Looks:
    return Looks(request, models_dir)


@pytest.mark.parametrize("runtime", RUNTIMES)
@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.word)
def test_a_runtime_keeps(looks: Looks, runtime: str, row: Row) -> None:
    outcomes = [each for each in looks.of(runtime).outcomes if each.row is row]
    failed = [f"{each.case}\n{each.why}" for each in outcomes if each.verdict is Verdict.FAILED]
    assert not failed, "\n\n".join(failed)


@pytest.mark.parametrize("runtime", RUNTIMES)
def test_the_matrix_in_the_docs_says_what_was_found(looks: Looks, runtime: str) -> None:
    kept = page.read(FOLDER / page.JSON_NAME)[runtime]["cells"]
    assert page.written(looks.of(runtime)) == kept, "run `make test-runtimes ARGS=--write-matrix`"
