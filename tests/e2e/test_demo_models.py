"""The bundled models know what the README says they know, asked through the whole chain."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from tests.e2e.processes import Node

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(600)]

EVALUATE = Path(__file__).parents[2] / "scripts" / "demo_models" / "evaluate.py"


@pytest.mark.parametrize(
    ("text", "vision"), [("helexa-demo", ""), ("", "helexa-demo-vision")], ids=["text", "vision"]
)
def test_its_own_questions_tools_and_held_out_pictures(up: Node, text: str, vision: str) -> None:
    """98% of the questions exactly; tools and fresh pictures at 90%: the script's own bars."""
    done = subprocess.run(
        [
            *(sys.executable, str(EVALUATE)),
            *("--base-url", up.ready["base_url"], "--api-key", up.ready["api_key"]),
            *("--model", text, "--vision-model", vision),
        ],
        capture_output=True,
        text=True,
        check=False,
        timeout=500,
    )
    assert done.returncode == 0, done.stdout + done.stderr
