"""What others say that servers of these APIs must do: llm-comply's suites, on the real chain."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
from tests.e2e.processes import Node

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(180)]

PICTURE_TEST = "chat-image-input"
MESSAGES_PICTURE_TEST = "anth-image-input"
RESPONSES_PICTURE_TEST = "image-input"
# The suite runs these only for models whose name says that they reason.
NOT_FOR_THESE_MODELS = {"chat-reasoning-summary", "anth-thinking-display", "reasoning-summary"}


def run_suite(up: Node, model: str, *more: str, form: str = "openai-chat") -> dict[str, str]:
    """Each test's status, by its id."""
    done = subprocess.run(
        [
            *(str(Path(sys.executable).with_name("llm-comply")), "--format", form),
            *("-u", up.ready["base_url"], "-k", up.ready["api_key"], "-m", model, "--json"),
            *more,
        ],
        capture_output=True,
        text=True,
        check=False,
        timeout=150,
    )
    try:
        report = json.loads(done.stdout)
    except ValueError:
        raise AssertionError(done.stdout + done.stderr) from None
    assert report["results"], report
    return {one["id"]: one["status"] for one in report["results"]}


def test_every_chat_test_passes_that_a_text_model_can_pass(up: Node) -> None:
    results = run_suite(up, "helexa-demo")
    expected = results.keys() - NOT_FOR_THESE_MODELS - {PICTURE_TEST}
    assert len(expected) >= 7
    assert {name: results[name] for name in expected} == dict.fromkeys(expected, "passed")


def test_the_picture_test_passes_with_the_vision_model(up: Node) -> None:
    results = run_suite(up, "helexa-demo-vision", "-f", PICTURE_TEST)
    assert results[PICTURE_TEST] == "passed"


def test_every_messages_test_passes_that_a_text_model_can_pass(up: Node) -> None:
    results = run_suite(up, "helexa-demo", form="anthropic")
    expected = results.keys() - NOT_FOR_THESE_MODELS - {MESSAGES_PICTURE_TEST}
    assert len(expected) >= 7
    assert {name: results[name] for name in expected} == dict.fromkeys(expected, "passed")


def test_the_picture_test_of_messages_passes_with_the_vision_model(up: Node) -> None:
    results = run_suite(up, "helexa-demo-vision", "-f", MESSAGES_PICTURE_TEST, form="anthropic")
    assert results[MESSAGES_PICTURE_TEST] == "passed"


def test_every_responses_test_passes_that_a_text_model_can_pass(up: Node) -> None:
    results = run_suite(up, "helexa-demo", form="open-responses")
    expected = results.keys() - NOT_FOR_THESE_MODELS - {RESPONSES_PICTURE_TEST}
    assert len(expected) >= 11
    assert {name: results[name] for name in expected} == dict.fromkeys(expected, "passed")


def test_the_responses_picture_test_passes_with_the_vision_model(up: Node) -> None:
    results = run_suite(
        up, "helexa-demo-vision", "-f", RESPONSES_PICTURE_TEST, form="open-responses"
    )
    assert results[RESPONSES_PICTURE_TEST] == "passed"
