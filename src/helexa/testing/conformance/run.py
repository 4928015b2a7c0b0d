"""Runs the cases on a subject, and judges what came of each."""

from __future__ import annotations

import time
import traceback
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

from helexa.protocol.errors import CapabilityMissing
from helexa.runtime.contract import Endpoint
from helexa.testing.conformance import imagined
from helexa.testing.conformance.case import CASES, REFUSALS, Case
from helexa.testing.conformance.cases import load_all
from helexa.testing.conformance.findings import Findings, Outcome, Verdict
from helexa.testing.conformance.rows import ROWS, Row
from helexa.testing.conformance.stage import staged
from helexa.testing.conformance.subject import NotTestable, Refused, Subject

load_all()


async def look(
    runtime: str,
    model: str,
    models_dir: Path | None = None,
    *,
    rows: Collection[str] = (),
    **more: Any,
) -> Findings:
    """All cases on a neuron of its own; `more` as in `staged`."""
    async with staged(model, runtime=runtime, models_dir=models_dir, **more) as subject:
        found = await conform(subject, rows=rows)
    found.runtime = runtime
    return found


async def conform(subject: Subject, *, rows: Collection[str] = (), word: str = "") -> Findings:
    """All cases, or those of some rows by their words, or with a word in their names."""
    chosen = [row for row in ROWS if not rows or row.word in rows]
    found = Findings(models=[subject.model])
    try:
        found.runtime = await subject.runtime()
    except CapabilityMissing as error:
        found.outcomes = [_untestable(row, error.message) for row in chosen]
        return found
    # Loaded before, so that a case takes what it takes, and a refusal can be seen to ask nothing.
    await subject.engine()
    for row in sorted(chosen, key=lambda row: row.ends_engine):
        found.outcomes += await _of_row(subject, row, word)
    return found


async def _of_row(subject: Subject, row: Row, word: str) -> list[Outcome]:
    offered = await subject.offered()
    if row.word in subject.cannot:
        return [_untestable(row, subject.cannot[row.word])]
    if row.declared is not None and not row.declared(offered):
        return [await _refused(subject, row)] if word in row.word else []
    if row.for_class is not None and row.for_class not in offered.classes:
        return [_untestable(row, f"{subject.model} is not for {row.for_class.value}")]
    here = [each for each in CASES if each.row is row]
    return [await _tried(subject, each) for each in here if word in f"{row.word} {each.name}"]


def _untestable(row: Row, why: str) -> Outcome:
    return Outcome(row=row, case="", verdict=Verdict.UNTESTABLE, why=why)


async def _tried(subject: Subject, case: Case) -> Outcome:
    began_s = time.monotonic()
    verdict, why = Verdict.YES, ""
    try:
        await case.check(subject)
    except NotTestable as reason:
        verdict, why = Verdict.UNTESTABLE, str(reason)
    except Refused as refused:
        verdict, why = await _lacked(subject, case.row, refused)
    except Exception:  # noqa: BLE001 - whatever breaks a case is a finding, and the rest goes on
        verdict, why = Verdict.FAILED, traceback.format_exc(limit=-4)
    taken_s = time.monotonic() - began_s
    return Outcome(row=case.row, case=case.name, verdict=verdict, why=why, seconds=taken_s)


async def _lacked(subject: Subject, row: Row, refused: Refused) -> tuple[Verdict, str]:
    """Of what was tried and refused: fine only where it may be lacking and the words are right."""
    if not row.may_lack:
        return Verdict.FAILED, f"it is declared, or every runtime's duty, but: {refused.words}"
    if (runtime := await subject.runtime()) not in refused.words:
        return Verdict.FAILED, f"a refusal names the runtime {runtime}: {refused.words}"
    return Verdict.NO, refused.words


async def _refused(subject: Subject, row: Row) -> Outcome:
    """Ask for what is not declared."""
    verdict, why = Verdict.NO, ""
    try:
        async with subject.computing_nothing():
            if row.asks is not None:
                why = await _flaw_of_refusal(subject, row, *row.asks)
            elif row.word in REFUSALS:
                await REFUSALS[row.word](subject)
    except Exception:  # noqa: BLE001 - as above
        why = traceback.format_exc(limit=-4)
    if why:
        verdict, why = Verdict.FAILED, f"not declared, so it has to be refused: {why}"
    else:
        replica = await subject.replica()
        if imagined.offers(replica.adapter, replica.spec.files, row):
            verdict, why = Verdict.UNTESTABLE, "no model that was tried is one for it"
    return Outcome(row=row, case="refusal", verdict=verdict, why=why)


async def _flaw_of_refusal(
    subject: Subject, row: Row, endpoint: Endpoint, body: Mapping[str, Any]
) -> str:
    """Empty for a refusal as it should be."""
    reply = await subject.post(endpoint.value, {"model": subject.model, **body})
    said = reply.content[:500].decode(errors="replace")
    if reply.status != 400:
        return f"it was answered with {reply.status}: {said}"
    code = reply.error["code"]
    if row.word == "vision" and code == "unsupported_modality":
        return ""
    if code != "unsupported_capability":
        return f"its code is unsupported_capability: {said}"
    if (runtime := await subject.runtime()) not in reply.error["message"]:
        return f"it has to name the runtime, {runtime}: {said}"
    return ""
