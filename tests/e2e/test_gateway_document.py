"""The gateway's OpenAPI document: valid, complete, and true under what a fuzzer sends."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
from openapi_spec_validator import validate
from tests.e2e.fuzzing import fuzz
from tests.e2e.processes import Node
from tests.e2e.raw import ask, asked

from helexa.cortex.gateway.app import work_endpoints

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(300)]

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def document(up: Node) -> dict[str, Any]:
    status, found = ask(up.ready["gateway_url"], "/openapi.json")
    assert status == 200
    return dict(found)


def test_it_is_valid_openapi_and_open_to_all(document: dict[str, Any]) -> None:
    assert document["openapi"] == "3.1.0"
    validate(document)


def test_every_endpoint_is_in_it_and_on_the_page_for_people(document: dict[str, Any]) -> None:
    told = {
        (method.upper(), path)
        for path, methods in document["paths"].items()
        for method, operation in methods.items()
        # The others are there to say that they are always refused.
        if "200" in operation["responses"]
    }
    served = {("POST", one.path) for one in work_endpoints() if one.for_clients}
    assert served <= told
    page = (ROOT / "docs" / "http-api.md").read_text()
    gateway = page[page.index("## Gateway") : page.index("## Between cortexes")]
    named = set(re.findall(r"^\| ([A-Z]+) \| `([^`]+)` \|", gateway, re.MULTILINE))
    everywhere = {("GET", path) for path in ("/healthz", "/readyz", "/metrics")}
    assert named == told - everywhere


def test_what_is_streamed_is_what_it_says(up: Node, document: dict[str, Any]) -> None:
    """Each event, by the schema beside the media type."""
    from jsonschema import Draft202012Validator

    answers = document["paths"]["/v1/chat/completions"]["post"]["responses"]["200"]["content"]
    data = answers["text/event-stream"]["schema"]["properties"]["data"]
    schema = {**data["contentSchema"], **document}
    judge = Draft202012Validator(schema)
    body = {
        "model": "helexa-demo",
        "messages": [{"role": "user", "content": "What is helexa?"}],
        "stream": True,
        "stream_options": {"include_usage": True},
    }
    with asked(
        up.ready["base_url"], "/chat/completions", body, key=up.ready["api_key"]
    ) as response:
        assert response.headers.get_content_type() == "text/event-stream"
        lines = response.read().decode().splitlines()
    events = [line[6:] for line in lines if line.startswith("data: ")]
    assert events[-1] == "[DONE]"
    assert len(events) > 3
    for event in events[:-1]:
        judge.validate(json.loads(event))


def test_a_fuzzer_finds_nothing(up: Node, tmp_path: Path) -> None:
    fuzz(up, tmp_path, examples=8, models=("helexa-demo",), phases="fuzzing")


def test_a_fuzzer_finds_nothing_beside_the_work_of_models(up: Node, tmp_path: Path) -> None:
    """Every parameter at its edges; `make test-clients` does that with the rest, too."""
    less = ("--include-path-regex", "models|_id|z$|metrics|openapi")
    fuzz(up, tmp_path, examples=8, models=("helexa-demo",), phases="coverage", more=less)
