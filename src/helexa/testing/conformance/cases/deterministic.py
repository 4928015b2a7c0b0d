"""Answers that do not depend on what else runs."""

from __future__ import annotations

import anyio

from helexa.protocol.errors import CapabilityMissing
from helexa.protocol.messages import ModelConfig
from helexa.testing.conformance import rows
from helexa.testing.conformance.case import case, refusal
from helexa.testing.conformance.subject import Subject


@case(rows.DETERMINISTIC)
async def an_answer_is_the_same_alone_and_in_company(subject: Subject) -> None:
    """Of a replica that was asked to be deterministic; four at once for each slot."""
    await subject.until_idle()
    spec = await subject.spec()
    config = ModelConfig(deterministic=True, slots=spec.slots, context_tokens=spec.context_tokens)
    await subject.roster.load(subject.model, config)
    spec = await subject.spec()
    assert spec.deterministic, "it was not loaded that way"
    body = {**subject.knowledge.endless, "max_tokens": 100, "temperature": 0}
    alone = (await subject.answer(body)).text
    texts: list[str] = []

    async def again() -> None:
        texts.append((await subject.answer(body)).text)

    async with anyio.create_task_group() as tasks:
        for _ in range(4 * spec.slots):
            tasks.start_soon(again)
    assert set(texts) == {alone}, texts


@refusal(rows.DETERMINISTIC)
async def a_replica_that_was_to_be_deterministic_is_refused(subject: Subject) -> None:
    """It is a setting and no field of a request, so whoever sets it is told."""
    told = ""
    try:
        subject.roster.configure(subject.model, ModelConfig(deterministic=True))
    except CapabilityMissing as error:
        told = error.message
    assert await subject.runtime() in told, told or "it was taken, and would have meant nothing"
