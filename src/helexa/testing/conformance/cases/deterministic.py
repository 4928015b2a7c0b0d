"""Answers that do not depend on what else runs."""

from __future__ import annotations

import anyio

from helexa.protocol.messages import ModelConfig
from helexa.testing.conformance import rows
from helexa.testing.conformance.case import case
from helexa.testing.conformance.subject import Subject


@case(rows.DETERMINISTIC, is_last=True)
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
