"""What a client's file says it checks, and the one way to run it; standard library alone.

A client runs in an environment of its own, without helexa and without pytest. It is told where the
gateway is by its environment, and tells what it found in JSON lines.
"""

from __future__ import annotations

import asyncio
import base64
import contextlib
import importlib.metadata
import inspect
import json
import os
import traceback
from collections.abc import Callable, Iterator
from typing import Any

URL = os.environ["HELEXA_TEST_URL"]
"""Of the gateway, without `/v1`."""
BASE_URL = f"{URL}/v1"
KEY = os.environ["HELEXA_TEST_KEY"]

MODEL, VISION, EMBEDDER = "helexa-demo", "helexa-demo-vision", "tiny-embed-f32"
QUESTION = "What is helexa?"
ANSWER = (
    "helexa is a federated AI fabric: machines that run models join together and are used "
    "through one API."
)
CITY, CITY_QUESTION = "Paris", "What is the weather in Paris?"
WEATHER = "17 C, fog"
"""What the tool answers; the model repeats it."""
TOOL_ABOUT = "Get current weather for a location."
PARAMETERS = {
    "type": "object",
    "properties": {"city": {"type": "string"}},
    "required": ["city"],
}
PICTURE = base64.b64encode(open(os.environ["HELEXA_TEST_PICTURE"], "rb").read()).decode()  # noqa: SIM115, PTH123
"""Of a kind that the model has never seen exactly."""
SEEN = os.environ["HELEXA_TEST_SEEN"]
"""What is on it, as the model says it."""

_checks: list[tuple[str, tuple[str, ...], Callable[[], Any]]] = []


def check(surface: str, *features: str) -> Callable[[Callable[[], Any]], Callable[[], Any]]:
    """`surface` is the API that is spoken; `features` are columns of the table in docs."""

    def register(function: Callable[[], Any]) -> Callable[[], Any]:
        _checks.append((surface, features, function))
        return function

    return register


@contextlib.contextmanager
def refused(kind: type[BaseException], status: int) -> Iterator[list[Any]]:
    """The block ends with the client's own exception for that refusal, which the list has then."""
    caught: list[Any] = []
    try:
        yield caught
    except kind as error:
        caught.append(error)
    told = getattr(caught[0], "status_code", status) if caught else None
    assert told == status, f"{kind.__name__} and {status}, not {told}: {caught}"


def run(*packages: str) -> None:
    """Run what was registered; `packages` are those whose versions are shown."""
    for surface, features, function in _checks:
        told: dict[str, Any] = {"check": function.__name__, "surface": surface}
        told["features"] = features
        try:
            if inspect.iscoroutinefunction(function):
                asyncio.run(function())
            else:
                function()
        except BaseException:  # noqa: BLE001 - whatever a client throws is what is to be told
            told["failed"] = traceback.format_exc()[-3000:]
        print(json.dumps(told), flush=True)
    versions = {name: importlib.metadata.version(name) for name in packages}
    print(json.dumps({"versions": versions}), flush=True)
