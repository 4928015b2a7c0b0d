"""How the next token is chosen, and what is told of it."""

from __future__ import annotations

import json
from typing import Any, Final

from helexa.testing.conformance import rows
from helexa.testing.conformance.case import case
from helexa.testing.conformance.subject import Subject

_WILD: Final[dict[str, Any]] = {"temperature": 2.0, "top_p": 1.0, "max_tokens": 24}


@case(rows.LOGPROBS)
async def each_token_comes_with_its_probability(subject: Subject) -> None:
    """One entry a token, with as many others as were asked for; streamed the same."""
    question = subject.knowledge.questions[0]
    asked = subject.chat(question, logprobs=True, top_logprobs=2, max_tokens=6)
    whole = await subject.answer(asked)
    streamed = await subject.answer({**asked, "stream": True})
    told = whole.json["choices"][0]["logprobs"]["content"]
    pieces = [
        one
        for event in streamed.events
        for choice in event["choices"]
        for one in (choice.get("logprobs") or {}).get("content") or ()
    ]
    for listed in (told, pieces):
        assert len(listed) == whole.usage["completion_tokens"], json.dumps(listed)[:500]
        for one in listed:
            assert one["logprob"] <= 0, one
            assert len(one["top_logprobs"]) == 2, one
            assert max(each["logprob"] for each in one["top_logprobs"]) >= one["logprob"], one
    assert "".join(one["token"] for one in told).strip() == whole.text.strip()


@case(rows.CHOICES)
async def several_choices_come_and_are_counted_together(subject: Subject) -> None:
    """Each with its number; streamed, none is mixed into another."""
    question = subject.knowledge.questions[0]
    asked = subject.chat(question, n=2, max_tokens=5, temperature=1)
    whole = await subject.answer(asked)
    assert [choice["index"] for choice in whole.json["choices"]] == [0, 1]
    assert whole.usage["completion_tokens"] <= 10, whole.usage
    streaming = {**asked, "stream": True, "stream_options": {"include_usage": True}}
    streamed = await subject.answer(streaming)
    indices = {choice["index"] for event in streamed.events for choice in event["choices"]}
    assert indices == {0, 1}
    assert 5 < streamed.usage["completion_tokens"] <= 10, streamed.usage


@case(rows.SEED)
async def the_same_seed_gives_the_same_answer_and_another_another(subject: Subject) -> None:
    """At a temperature at which answers differ."""

    async def drawn(seed: int) -> str:
        return (
            await subject.answer(subject.chat(subject.knowledge.wavering, seed=seed, **_WILD))
        ).text

    first = await drawn(1)
    assert await drawn(1) == first
    others = {await drawn(seed) for seed in range(2, 10)}
    assert others - {first}, f"nine seeds, and always {first!r}"


@case(rows.PENALTIES)
async def a_penalty_changes_what_is_said(subject: Subject) -> None:
    """What was said once is said less."""
    asked = subject.chat(subject.knowledge.wavering)
    plain = await subject.answer(asked)
    for name in ("frequency_penalty", "presence_penalty"):
        penalised = await subject.answer({**asked, name: 2.0})
        assert penalised.text != plain.text, f"{name} changes nothing in {plain.text[:200]!r}"


@case(rows.LOGIT_BIAS)
async def a_bias_forces_a_token(subject: Subject) -> None:
    """With a bias of 100 nothing else is said; another token, another text."""
    texts = []
    for token in ("70", "71"):
        asked = subject.chat(subject.knowledge.questions[0], logit_bias={token: 100}, max_tokens=4)
        text = (await subject.answer(asked)).text
        assert text == text[: len(text) // 4] * 4, f"token {token}: {text!r}"
        texts.append(text)
    assert texts[0] != texts[1], texts
