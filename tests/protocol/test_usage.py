"""Counts in OpenAI's shape, read into classes that do not overlap."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from helexa.protocol.openai.usage import read
from helexa.protocol.work import Usage


def test_cached_is_taken_out_of_the_prompt_and_reasoning_out_of_the_completion() -> None:
    body = {
        "usage": {
            "prompt_tokens": 10,
            "completion_tokens": 8,
            "prompt_tokens_details": {"cached_tokens": 4},
            "completion_tokens_details": {"reasoning_tokens": 3},
        }
    }
    assert read(json.dumps(body).encode()) == Usage(
        prompt_uncached=6, prompt_cached=4, completion=5, reasoning=3
    )


@pytest.mark.parametrize(
    "event",
    [
        b"",
        b"{}",
        b'{"usage":null}',
        b'{"usage":7}',
        b'{"usage":{"prompt_tokens":-1}}',
        b'{"usage":{"prompt_tokens":"many"}}',
        b'{"usage":',
        b'{"choices":[{"delta":{"content":"\\"usage\\""}}]}',
    ],
)
def test_what_is_no_count_is_none(event: bytes) -> None:
    assert read(event) is None


@given(st.integers(0, 1000), st.integers(0, 1000), st.integers(-5, 2000), st.integers(-5, 2000))
def test_no_class_is_negative_and_the_sum_is_the_engines(
    prompt: int, completion: int, cached: int, reasoning: int
) -> None:
    body = {
        "usage": {
            "prompt_tokens": prompt,
            "completion_tokens": completion,
            "prompt_tokens_details": {"cached_tokens": cached},
            "completion_tokens_details": {"reasoning_tokens": reasoning},
        }
    }
    found = read(json.dumps(body).encode())
    assert found is not None
    assert (found.prompt, found.total) == (prompt, prompt + completion)
    assert min(found.prompt_uncached, found.prompt_cached, found.completion, found.reasoning) >= 0
