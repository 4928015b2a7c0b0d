"""What makes schemathesis ask for models that there are, and not for a thousand tokens each time.

Only what is of the right form is replaced, by another of that form: a body that breaks its schema
goes on breaking it.
"""

from __future__ import annotations

import os
from typing import Any

import schemathesis

MODELS = os.environ["HELEXA_FUZZ_MODELS"].split(",")
TOKENS_MAX = 4
_LIMITS = ("max_tokens", "max_completion_tokens", "max_output_tokens", "top_n")
_BY_PATH = {"embeddings": "embed", "rerank": "rerank"}
_OF_ITS_WAY = ("provider", "helexa", "models")
"""What schemathesis fills with words that mean nothing: nearly every request would end there."""


@schemathesis.hook
def before_call(context: Any, case: Any, kwargs: Any) -> None:
    body = case.body
    if not isinstance(body, dict):
        return
    path = case.operation.path
    if isinstance(body.get("model"), str):
        wanted = next((word for end, word in _BY_PATH.items() if path.endswith(end)), "demo")
        known = [one for one in MODELS if wanted in one] or MODELS
        number = len(body["model"])
        if number % 8 != 7:
            body["model"] = known[number % len(known)]
        if case.meta.generation.mode.is_positive and number % 4:
            for name in _OF_ITS_WAY:
                body.pop(name, None)
    for name in _LIMITS:
        limit = body.get(name)
        if isinstance(limit, int) and not isinstance(limit, bool) and limit > TOKENS_MAX:
            body[name] = TOKENS_MAX
    if path.endswith("completions"):
        body.setdefault("max_tokens", TOKENS_MAX)
    if path.endswith("responses"):
        body.setdefault("max_output_tokens", TOKENS_MAX)
