"""Several clients at once."""

from __future__ import annotations

from typing import Final

import anyio

from helexa.testing.conformance import rows
from helexa.testing.conformance.case import case
from helexa.testing.conformance.subject import Subject

_ROUNDS: Final = 3


@case(rows.CONCURRENCY)
async def each_of_many_gets_its_own_answer(subject: Subject) -> None:
    """More than there are slots, streamed and whole, each with another question."""
    wrong: list[str] = []

    async def ask(question: str, *, stream: bool) -> None:
        reply = await subject.answer(subject.chat(question, stream=stream))
        if not subject.knowledge.is_right(question, reply.text):
            wrong.append(f"{question!r}: {reply.text!r}")

    for _ in range(_ROUNDS):
        async with anyio.create_task_group() as tasks:
            for at, question in enumerate(subject.knowledge.questions):

                async def one(question: str = question, stream: bool = at % 2 == 0) -> None:
                    await ask(question, stream=stream)

                tasks.start_soon(one)
    assert not wrong, "\n".join(wrong)
