"""aider. A tiny model edits nothing well: what is seen here is that it is asked, streams and ends.

```sh
aider --model openai/helexa-demo --openai-api-base http://127.0.0.1:8080/v1 \
  --openai-api-key KEY --no-git --no-show-model-warnings --no-check-update --yes-always \
  --message "What is helexa?"
```
"""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

from checks import BASE_URL, KEY, MODEL, QUESTION, check, run

SMALL = "def add(a, b):\n    return a + b\n"
small = Path("small.py")
COUNTED = re.compile(r"Tokens: [1-9][0-9.]*k? sent, [1-9][0-9.]*k? received")


def aider(*words: str, key: str = KEY, model: str = MODEL) -> str:
    small.write_text(SMALL)
    done = subprocess.run(
        [
            *("aider", "--model", f"openai/{model}", "--openai-api-base", BASE_URL),
            *("--openai-api-key", key, "--no-git", "--no-check-update", "--analytics-disable"),
            *("--no-show-model-warnings", "--no-show-release-notes", "--no-pretty"),
            *("--yes-always", "--map-tokens", "0", "--message", QUESTION, *words, str(small)),
        ],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
    )
    said = done.stdout + done.stderr
    assert done.returncode == 0, said
    assert "Traceback" not in said, said
    return said


@check("chat", "text", "streaming", "usage")
def it_is_answered_in_a_stream_and_edits_nothing_by_accident() -> None:
    said = aider("--stream")
    assert COUNTED.search(said), said
    assert small.read_text() == SMALL


@check("chat", "text", "usage")
def it_is_answered_at_once() -> None:
    said = aider("--no-stream")
    assert COUNTED.search(said), said


@check("chat", "errors")
def refusals_are_said() -> None:
    assert "AuthenticationError" in aider(key="hx_live_nobody")
    assert "NotFoundError" in aider(model="nobody-has-this")


run("aider-chat")
