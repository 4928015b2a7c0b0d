"""Prompts of nothing, mixtures and ids that are no tokens are refused by their place."""

from __future__ import annotations

from typing import Any

import pytest
from tests.runtime.test_adapters_conform import ADAPTERS
from tests.runtime.test_asked import sent

from helexa.protocol.errors import BodyMalformed
from helexa.runtime import adapters
from helexa.runtime.contract import Endpoint, RuntimeAdapter
from helexa.runtime.openai import prompts

VOCABULARY = 100


@ADAPTERS
@pytest.mark.parametrize(
    ("prompt", "field"),
    [
        ("", "prompt"),
        ([], "prompt"),
        ([""], "prompt[0]"),
        (["a", ""], "prompt[1]"),
        ([[]], "prompt[0]"),
        ([[1], []], "prompt[1]"),
        (["a", 1], "prompt[1]"),
        ([1, "a"], "prompt[1]"),
        ([1, [2]], "prompt[1]"),
        ([1, -1], "prompt[1]"),
        ([[1], [1, -1]], "prompt[1][1]"),
        ([1 << 31], "prompt[0]"),
        ([1, 1 << 70], "prompt[1]"),
        ([True], "prompt[0]"),
        ([1.0], "prompt[0]"),
    ],
)
def test_a_prompt_that_is_none_is_refused_by_its_place(
    adapter: RuntimeAdapter, prompt: Any, field: str
) -> None:
    with pytest.raises(BodyMalformed) as refused:
        sent(adapter, Endpoint.COMPLETIONS, prompt=prompt)
    assert refused.value.field == field


@pytest.mark.parametrize(
    ("given", "field"), [([99, 100], "prompt[1]"), ([[0, 99], [5], [1 << 40]], "prompt[2][0]")]
)
def test_an_id_beyond_the_vocabulary_is_named(given: Any, field: str) -> None:
    with pytest.raises(BodyMalformed, match="which has 100") as refused:
        prompts.check(given, "prompt", VOCABULARY)
    assert refused.value.field == field


@pytest.mark.parametrize(
    ("given", "count"), [("a", 1), (["a", "b"], 2), ([0, 99], 1), ([[0], [99, 1]], 2)]
)
def test_prompts_are_counted(given: Any, count: int) -> None:
    assert prompts.check(given, "prompt", VOCABULARY) == count


@pytest.mark.parametrize("prompt", ["a", ["a", " "], [0, 99], [[0], [99, 1]]])
def test_a_sound_prompt_goes_to_the_engine_as_it_is(prompt: Any) -> None:
    arrived = sent(adapters.load("llama_cpp"), Endpoint.COMPLETIONS, prompt=prompt)
    assert arrived["prompt"] == prompt
