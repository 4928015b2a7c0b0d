"""What an engine says of how busy it is."""

from __future__ import annotations

from typing import Final

import anyio

from helexa.runtime.contract import EngineLoad, ReportingAdapter
from helexa.testing.conformance import rows
from helexa.testing.conformance.case import case
from helexa.testing.conformance.cases.cancel import endless
from helexa.testing.conformance.subject import Refused, Subject

_TRIES: Final = 20
_BODY_BYTES_MAX: Final = 1 << 20
_LOOK_EVERY_S: Final = 0.02


@case(rows.LOAD_REPORT)
async def a_request_is_seen_while_it_runs_and_not_afterwards(subject: Subject) -> None:
    """By the figures of the engine itself."""
    await subject.until_idle()
    await _until_idle(subject)
    for _ in range(_TRIES):
        body = {"model": subject.model, **await endless(subject), "stream": True}
        with await subject.send("/v1/chat/completions", body) as response:
            await response.head()
            await response.chunk()
            # A fast engine may be done before it is asked, so more than once.
            if (await _load(subject)).running:
                break
    else:
        raise AssertionError(f"{_TRIES} long answers, and never a request running")
    await _until_idle(subject)


async def _until_idle(subject: Subject) -> None:
    with anyio.fail_after(subject.patience_s):
        while (await _load(subject)).running:  # noqa: ASYNC110 - the engine tells who asks
            await anyio.sleep(_LOOK_EVERY_S)


async def _load(subject: Subject) -> EngineLoad:
    engine = await subject.engine()
    adapter = engine.adapter
    if not isinstance(adapter, ReportingAdapter):
        raise Refused(f"{adapter.name} does not tell")
    with await engine.pool.request("GET", adapter.load_path, engine.plan.headers) as response:
        assert response.status == 200, f"{adapter.load_path}: {response.status}"
        load = adapter.load(await response.read(_BODY_BYTES_MAX))
    assert load.running is not None, "it says nothing of what runs"
    return load
