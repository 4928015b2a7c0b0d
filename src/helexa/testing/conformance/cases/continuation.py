"""Going on where another engine stopped."""

from __future__ import annotations

from typing import Any

from helexa.runtime.contract import Endpoint
from helexa.testing.conformance import rows
from helexa.testing.conformance.case import case
from helexa.testing.conformance.subject import Subject


@case(rows.CONTINUE_TEXT)
async def a_message_of_the_assistants_is_gone_on_with(subject: Subject) -> None:
    """Not answered, nor begun again, nor said twice: what comes is the rest."""
    question = subject.knowledge.questions[0]
    full = (await subject.answer(subject.chat(question))).text
    # At a space, where a tokenizer begins a new token in a whole text, too.
    at = full.find(" ", len(full) // 3)
    messages = [
        {"role": "user", "content": question},
        {"role": "assistant", "content": full[:at]},
    ]
    more: dict[str, Any] = {"continue_final_message": True, "add_generation_prompt": False}
    for stream in (False, True):
        asked = subject.chat("", messages=messages, stream=stream, **more)
        reply = await subject.answer(asked)
        if subject.knowledge.is_exact:
            assert full[:at] + reply.text == full, f"{full[:at]!r} was gone on with {reply.text!r}"
        assert reply.text, "it went on with nothing"


@case(rows.CONTINUE_IDS)
async def token_ids_are_gone_on_with_exactly(subject: Subject) -> None:
    """No token is put before them or between; the same ids, the same text."""
    body = {"prompt": [70, 71, 72, 73], "max_tokens": 8, "temperature": 0}
    first = await subject.answer(body, Endpoint.COMPLETIONS)
    assert first.usage["prompt_tokens"] == 4, first.usage
    again = await subject.answer(body, Endpoint.COMPLETIONS)
    assert again.json["choices"][0]["text"] == first.json["choices"][0]["text"]
    other = {**body, "prompt": [73, 72, 71, 70, 69]}
    longer = await subject.answer(other, Endpoint.COMPLETIONS)
    assert longer.usage["prompt_tokens"] == 5, longer.usage
