"""Text that is gone on with, without a chat."""

from __future__ import annotations

from helexa.runtime.contract import Endpoint
from helexa.testing.conformance import rows
from helexa.testing.conformance.case import case
from helexa.testing.conformance.subject import Subject


@case(rows.TEXT)
async def a_text_is_gone_on_with_whole_and_streamed(subject: Subject) -> None:
    """The prompt as it is, without a template; the same text both ways."""
    body = {"prompt": "helexa is", "max_tokens": 12, "temperature": 0}
    whole = await subject.answer(body, Endpoint.COMPLETIONS)
    assert whole.json["object"] == "text_completion"
    (choice,) = whole.json["choices"]
    assert choice["text"].strip(), choice
    assert choice["finish_reason"] in ("stop", "length")
    assert whole.usage["completion_tokens"] <= 12
    streamed = await subject.answer({**body, "stream": True}, Endpoint.COMPLETIONS)
    pieces = [one["text"] for event in streamed.events for one in event["choices"] if one["text"]]
    assert "".join(pieces).strip()
    if subject.knowledge.is_exact:
        assert "".join(pieces) == choice["text"]
