"""The clients: which file drives each, in which environment, and what running it told."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

ROOT: Final = Path(__file__).parents[2]
HERE: Final = Path(__file__).parent / "clients"
ENVIRONMENTS: Final = ROOT / ".venv-clients"
CLIENT_TIMEOUT_S: Final = 240.0
"""One client with all of its checks; aider alone needs seconds to start."""
FEATURES: Final = (
    *("text", "streaming", "tools", "structured output", "vision", "embeddings"),
    *("errors", "models", "usage"),
)
"""The columns of the table in docs, in their order."""
_SNIPPET: Final = re.compile(r"```(\w+)\n(.*?)```", re.DOTALL)


@dataclass(frozen=True, slots=True, kw_only=True)
class Client:
    """`file` in `clients/`, run in the environment `venv`; `name` as people know it."""

    name: str
    file: str
    venv: str
    says: str = "federated AI fabric"
    """What its snippet prints, among other things."""

    @property
    def path(self) -> Path:
        return HERE / self.file

    @property
    def snippet(self) -> tuple[str, str]:
        """Its language and the text for people, which is run as it is but for address and key."""
        found = _SNIPPET.search(self.path.read_text(encoding="utf-8"))
        assert found, f"{self.file} has no snippet in its head"
        return found[1], found[2]


CLIENTS: Final = (
    Client(name="openai (Python)", file="openai_sdk.py", venv="openai"),
    Client(name="openai (Node)", file="openai_sdk.mjs", venv="node"),
    Client(name="anthropic (Python)", file="anthropic_sdk.py", venv="anthropic"),
    Client(name="anthropic (Node)", file="anthropic_sdk.mjs", venv="node"),
    Client(name="LangChain", file="langchain_chat.py", venv="langchain"),
    Client(name="Instructor", file="instructor_models.py", venv="instructor", says="kind="),
    Client(name="Pydantic AI", file="pydantic_ai_agent.py", venv="pydantic_ai"),
    Client(name="OpenAI Agents", file="openai_agents_sdk.py", venv="openai_agents"),
    Client(name="LlamaIndex", file="llama_index_llm.py", venv="llama_index"),
    Client(name="LiteLLM (library)", file="litellm_library.py", venv="litellm"),
    Client(name="llm (command line)", file="llm_command.py", venv="llm"),
    Client(name="aider", file="aider_command.py", venv="aider", says="Tokens: "),
    Client(name="Vercel AI SDK", file="vercel_ai.mjs", venv="node"),
)


@dataclass(slots=True)
class Told:
    """What a client's run said: versions, checks, and the log for when it says nothing."""

    versions: dict[str, str] = field(default_factory=dict)
    checks: list[dict[str, Any]] = field(default_factory=list)
    log: str = ""

    @property
    def failures(self) -> dict[str, str]:
        return {one["check"]: one["failed"] for one in self.checks if "failed" in one}

    def surfaces(self, feature: str) -> list[str]:
        """Those on which the feature was seen, in the order of the client's file."""
        found = (one["surface"] for one in self.checks if feature in one["features"])
        return list(dict.fromkeys(found))


def command(client: Client) -> list[str]:
    program = "node" if client.file.endswith(".mjs") else "python"
    return [str(ENVIRONMENTS / client.venv / "bin" / program)]


def surroundings(client: Client, folder: Path, more: Mapping[str, str]) -> dict[str, str]:
    """The variables that a client sees: a home of its own, and nothing of this machine's keys."""
    # aider asks another host for prices, where it has no fresh list of them.
    prices = folder / ".aider" / "caches" / "model_prices_and_context_window.json"
    prices.parent.mkdir(parents=True, exist_ok=True)
    prices.write_text("{}")
    kept = {name: os.environ[name] for name in ("LANG", "TMPDIR") if name in os.environ}
    return {
        "PATH": f"{ENVIRONMENTS / client.venv / 'bin'}:/usr/bin:/bin",
        "HOME": str(folder),
        "PYTHONPATH": str(HERE),
        # No client may look for models, prices or news elsewhere.
        "LITELLM_LOCAL_MODEL_COST_MAP": "True",
        "OPENAI_AGENTS_DISABLE_TRACING": "1",
        "AI_SDK_TELEMETRY_DISABLED": "1",
        "NO_PROXY": "*",
        **kept,
        **more,
    }


def placed(client: Client) -> Path:
    """Where its file is run from: Node looks for packages in the folders above a file."""
    if not client.file.endswith(".mjs"):
        return client.path
    beside = ENVIRONMENTS / client.venv / "tests"
    beside.mkdir(exist_ok=True)
    shutil.copy(HERE / "checks.mjs", beside)
    return Path(shutil.copy(client.path, beside))


def run(client: Client, folder: Path, more: Mapping[str, str]) -> Told:
    """Run a client's checks with `folder` as its home and place."""
    done = subprocess.run(
        [*command(client), str(placed(client))],
        cwd=folder,
        env=surroundings(client, folder, more),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=CLIENT_TIMEOUT_S,
        check=False,
    )
    told = Told(log=done.stdout[-4000:] + done.stderr[-4000:])
    for line in done.stdout.splitlines():
        if not line.startswith('{"'):
            continue
        said = json.loads(line)
        if "versions" in said:
            told.versions = said["versions"]
        else:
            told.checks.append(said)
    return told
