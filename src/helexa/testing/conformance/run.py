"""Runs the cases on a subject, and judges what came of each."""

from __future__ import annotations

import time
import traceback
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from helexa.testing.conformance.case import CASES, Case
from helexa.testing.conformance.cases import load_all
from helexa.testing.conformance.findings import Findings, Outcome, Verdict
from helexa.testing.conformance.rows import ROWS, Row
from helexa.testing.conformance.stage import staged
from helexa.testing.conformance.subject import NotTestable, Refused, Subject

load_all()


async def look(
    runtime: str, model: str, models_dir: Path | None = None, *, only: str = "", **more: Any
) -> Findings:
    """All cases on a neuron of its own; `more` as in `staged`."""
    async with staged(model, runtime=runtime, models_dir=models_dir, **more) as subject:
        return await conform(subject, only=only)


async def conform(subject: Subject, *, only: str = "") -> Findings:
    """All cases, or those whose row is `only` or whose name has that in it."""
    found = Findings(runtime=await subject.runtime(), models=[subject.model])
    await subject.engine()
    chosen = [each for each in CASES if only in ("", each.row.word) or only in each.name]
    for row in ROWS:
        ordered = [each for each in chosen if each.row is row and not each.is_last]
        found.outcomes += await _of_row(subject, row, ordered, is_whole=not only)
    for last in chosen:
        if last.is_last:
            found.outcomes.append(await _tried(subject, last))
    return found


async def _of_row(
    subject: Subject, row: Row, cases: Iterable[Case], *, is_whole: bool
) -> list[Outcome]:
    offered = await subject.offered()
    if row.word in subject.cannot:
        why = subject.cannot[row.word]
        return [Outcome(row=row, case="", verdict=Verdict.UNTESTABLE, why=why)]
    if row.declared is not None and not row.declared(offered):
        return [await _refused(subject, row)] if cases or is_whole else []
    if row.for_class is not None and row.for_class not in offered.classes:
        why = f"{subject.model} is not for {row.for_class.value}"
        return [Outcome(row=row, case="", verdict=Verdict.UNTESTABLE, why=why)]
    return [await _tried(subject, each) for each in cases]


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
    if row.asks is not None:
        endpoint, body = row.asks
        try:
            async with subject.computing_nothing():
                reply = await subject.post(endpoint.value, {"model": subject.model, **body})
            why = _flaw_of_refusal(reply.status, reply.content, await subject.runtime(), row)
        except Exception:  # noqa: BLE001 - as above
            why = traceback.format_exc(limit=-4)
        if why:
            verdict, why = Verdict.FAILED, f"not declared, so it has to be refused: {why}"
    return Outcome(row=row, case="refusal", verdict=verdict, why=why)


def _flaw_of_refusal(status: int, content: bytes, runtime: str, row: Row) -> str:
    """Empty for a refusal as it should be."""
    said = content[:500].decode(errors="replace")
    if status != 400:
        return f"it was answered with {status}: {said}"
    codes = ["unsupported_capability"]
    if row.word == "vision":
        codes.append("unsupported_modality")
    if not any(f'"code":"{code}"' in said for code in codes):
        return f"its code is {' or '.join(codes)}: {said}"
    if runtime not in said and "unsupported_modality" not in said:
        return f"it has to name the runtime, {runtime}: {said}"
    return ""
