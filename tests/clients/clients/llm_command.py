"""`llm`, the command line. It reads the models that it does not know itself from a file.

```sh
cat >"$(dirname "$(llm logs path)")/extra-openai-models.yaml" <<'MODELS'
- model_id: helexa-demo
  model_name: helexa-demo
  api_base: "http://127.0.0.1:8080/v1"
  api_key_name: helexa
  supports_tools: true
  supports_schema: true
MODELS
llm keys set helexa --value KEY
llm -m helexa-demo "What is helexa?"
```
"""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

from checks import (
    ANSWER,
    BASE_URL,
    CITY_QUESTION,
    KEY,
    MODEL,
    QUESTION,
    SEEN,
    VISION,
    WEATHER,
    check,
    run,
)

TOOL = f'''
def get_weather(city: str) -> str:
    """Get current weather for a location."""
    return "{WEATHER}"
'''


def llm(*words: str, fails: bool = False) -> str:
    done = subprocess.run(
        ["llm", *words], stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False
    )
    assert (done.returncode != 0) is fails, done.stdout + done.stderr
    return done.stderr if fails else done.stdout


def asked(*words: str, model: str = MODEL) -> tuple[str, ...]:
    return ("-m", model, "-o", "temperature", "0", "-o", "max_tokens", "200", *words)


folder = Path(llm("logs", "path").strip()).parent
folder.mkdir(parents=True, exist_ok=True)
(folder / "extra-openai-models.yaml").write_text(
    "".join(
        f"- model_id: {name}\n  model_name: {name}\n  api_base: {BASE_URL}\n"
        "  api_key_name: helexa\n  supports_tools: true\n  supports_schema: true\n  vision: true\n"
        for name in (MODEL, VISION, "nobody-has-this")
    )
)
llm("keys", "set", "helexa", "--value", KEY)


@check("chat", "text", "usage")
def a_whole_answer() -> None:
    assert llm(*asked("--no-stream", QUESTION)).strip() == ANSWER
    (logged,) = json.loads(llm("logs", "list", "--json", "-n", "1"))
    assert logged["output_tokens"] > 3


@check("chat", "streaming")
def a_stream() -> None:
    assert llm(*asked(QUESTION)).strip() == ANSWER


@check("chat", "tools")
def a_tool_of_ones_own() -> None:
    assert "17" in llm(*asked("--functions", TOOL, CITY_QUESTION))


@check("chat", "structured output")
def a_schema() -> None:
    assert isinstance(json.loads(llm(*asked("--schema", "ok bool", QUESTION)))["ok"], bool)


@check("chat", "vision")
def a_picture() -> None:
    import os

    picture = os.environ["HELEXA_TEST_PICTURE"]
    assert llm(*asked("-a", picture, "What is in this picture?", model=VISION)).strip() == SEEN


@check("chat", "errors")
def refusals_are_said() -> None:
    assert "401" in llm(*asked("--key", "hx_live_nobody", QUESTION), fails=True)
    assert "404" in llm(*asked(QUESTION, model="nobody-has-this"), fails=True)


run("llm")
