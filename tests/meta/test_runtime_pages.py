"""The pages about runtimes: the matrix is the results, the tutorial is an adapter that works."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import anyio
import pytest
from tests.meta.sources import ROOT

from helexa.runtime import adapters
from helexa.testing.conformance import look, page
from helexa.testing.conformance.knowledge import ECHO
from helexa.testing.conformance.rows import ROWS

FOLDER = ROOT / "docs" / "runtimes"
RESULTS = page.read(FOLDER / page.JSON_NAME)


def test_the_matrix_on_the_page_is_what_was_found() -> None:
    text = (FOLDER / page.PAGE_NAME).read_text()
    wanted = page.rewritten(text, RESULTS)
    assert text == wanted, "run `python -m helexa.testing.conformance --write docs/runtimes`"


def test_every_column_has_every_row() -> None:
    words = {row.word for row in ROWS}
    for name, of in RESULTS.items():
        assert set(of["cells"]) == words, f"look at {name} again: its results are of other rows"
        assert of["engine"], f"{name} has no engine at its head"


def test_every_runtime_of_this_build_has_a_page_a_line_and_a_column() -> None:
    listed = (FOLDER / page.PAGE_NAME).read_text()
    for name in adapters.names():
        assert f"| `{name}` |" in listed
        assert f"({name}.md)" in listed
        assert (FOLDER / f"{name}.md").exists(), f"docs/runtimes/{name}.md says how it is run"
        assert name in RESULTS, f"nobody has run the conformance suite on {name} yet"


# --- "add a runtime", followed literally


@pytest.fixture
def followed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """The one file of the tutorial, where the registry finds it."""
    (block,) = re.findall(
        r"^```python\n(.*?)^```", (FOLDER / "adding.md").read_text(), re.MULTILINE | re.DOTALL
    )
    (tmp_path / "echo.py").write_text(block)
    monkeypatch.setattr(adapters, "__path__", [*adapters.__path__, str(tmp_path)])
    adapters.names.cache_clear()
    yield "echo"
    adapters.names.cache_clear()


def test_the_adapter_of_the_tutorial_keeps_what_every_runtime_has_to_keep(followed: str) -> None:
    found = anyio.run(lambda: look(followed, "helexa-demo", knowledge=ECHO))
    assert not found.failures, found.table()
    cells = {word: cell.verdict.value for word, cell in found.cells().items()}
    for word in ("chat", "completion", "streams", "stop", "cancel", "loads_again", "comes_back"):
        assert cells[word] == "yes", (word, cells[word])
    assert cells["tools"] == "no"
