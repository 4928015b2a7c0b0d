"""The conformance suite on every runtime that `make test` has: real engines, and the fake child.

All cases of a runtime are tried on one neuron; each is a test of its own, so that what
failed stands in the report by its name.
"""

from __future__ import annotations

import sys
from dataclasses import replace
from functools import cache
from pathlib import Path

import anyio
import pytest

from helexa.runtime import adapters
from helexa.runtime.contract import Ability
from helexa.testing.conformance import Findings, Verdict, conform, page
from helexa.testing.conformance import __main__ as command
from helexa.testing.conformance.rows import ROWS, Row
from helexa.testing.conformance.stage import staged_fake
from helexa.testing.conformance.usual import HONEST, LOOKS, PLAIN
from helexa.testing.fake_runtime import FakeRuntime

MATRIX = Path(__file__).parents[2] / "docs" / "runtimes" / page.JSON_NAME


@cache
def found(runtime: str) -> Findings:
    return anyio.run(LOOKS[runtime], backend_options={"use_uvloop": True})


@pytest.mark.parametrize("runtime", LOOKS)
@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.word)
@pytest.mark.timeout(300)
def test_a_runtime_keeps(runtime: str, row: Row) -> None:
    outcomes = [each for each in found(runtime).outcomes if each.row is row]
    failed = [f"{each.case}\n{each.why}" for each in outcomes if each.verdict is Verdict.FAILED]
    assert not failed, "\n\n".join(failed)


@pytest.mark.parametrize("runtime", LOOKS)
def test_the_matrix_in_the_docs_says_what_was_found(runtime: str) -> None:
    kept = page.read(MATRIX)[runtime]["cells"]
    command = f"python -m helexa.testing.conformance --usual {runtime} --write docs/runtimes"
    assert page.written(found(runtime)) == kept, f"run `{command}`"


# --- the suite itself


async def of_fake(fake: FakeRuntime, row: str) -> Findings:
    async with staged_fake(fake) as subject:
        return await conform(subject, rows=(row,))


# An echo is the same in any company.
TRUE = (Ability.DETERMINISTIC,)


@pytest.mark.parametrize("lie", [one for one in Ability if one not in TRUE])
def test_an_ability_that_is_claimed_and_not_there_is_found_out(lie: Ability) -> None:
    liar = replace(HONEST, offered=replace(PLAIN, abilities=frozenset({lie})))
    findings = anyio.run(of_fake, liar, lie.value)
    assert findings.failures


@pytest.mark.parametrize(
    ("flags", "row"),
    [
        (("--answers", "usage-wrong"), "usage"),
        (("--answers", "usage-missing"), "usage"),
        (("--tokens", "1"), "streams"),
        (("--tokens", "9"), "max_tokens"),
        ((), "stop"),
        ((), "context_limit"),
        ((), "concurrency"),
    ],
)
def test_an_engine_that_does_not_keep_its_word_is_found_out(
    flags: tuple[str, ...], row: str
) -> None:
    findings = anyio.run(of_fake, replace(HONEST, flags={"m": flags}), row)
    assert findings.failures


@pytest.mark.parametrize(
    ("runtime", "words"),
    [
        ("nosuch", "no runtime named 'nosuch'; this build knows"),
        ("vllm", "vllm is not installed; install it with: pip install vllm; or name its place"),
    ],
)
def test_a_runtime_that_is_not_here_is_refused_in_clear_words(
    runtime: str, words: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(adapters, "_is_here", lambda _module: False)
    monkeypatch.setattr(sys, "argv", ["conformance", "--runtime", runtime])
    with pytest.raises(SystemExit) as ended:
        command.main()
    assert ended.value.code == 2
    assert words in capsys.readouterr().err
