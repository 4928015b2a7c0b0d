"""Answers that do not depend on what else runs."""

from __future__ import annotations

import anyio

from helexa.protocol.errors import CapabilityMissing
from helexa.protocol.messages import ModelConfig
from helexa.runtime.contract import Ability
from helexa.testing.conformance import rows
from helexa.testing.conformance.case import case, refusal
from helexa.testing.conformance.subject import Body, Subject


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
    if Ability.LOGPROBS in (await subject.offered()).abilities:
        # Numbers differ long before words do.
        body.update(logprobs=True, top_logprobs=1)
    alone = await _said(subject, body)
    company = subject.knowledge.questions
    others: list[object] = []

    async def again(at: int) -> None:
        await subject.answer(subject.chat(company[at % len(company)]))
        others.append(await _said(subject, body))

    async with anyio.create_task_group() as tasks:
        for at in range(4 * spec.slots):
            tasks.start_soon(again, at)
    assert all(each == alone for each in others), f"{alone}\n{others}"


async def _said(subject: Subject, body: Body) -> object:
    choice = (await subject.answer(body)).json["choices"][0]
    told = (choice.get("logprobs") or {}).get("content") or ()
    return choice["message"]["content"], [round(one["logprob"], 6) for one in told]


@refusal(rows.DETERMINISTIC)
async def a_replica_that_was_to_be_deterministic_is_refused(subject: Subject) -> None:
    """It is a setting and no field of a request, so whoever sets it is told."""
    told = ""
    try:
        subject.roster.configure(subject.model, ModelConfig(deterministic=True))
    except CapabilityMissing as error:
        told = error.message
    assert await subject.runtime() in told, told or "it was taken, and would have meant nothing"
