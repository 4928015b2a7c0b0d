"""A cortex and neurons that each have room for one model, as their operators start them."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

from tests.e2e.processes import Node, helexa, started, until
from tests.e2e.raw import ask

from helexa.neuron.models.store import DEMO_FOLDER

CHAT = "/v1/chat/completions"
DEMO = DEMO_FOLDER / "helexa-demo.gguf"
SLOTS = 2
ROOM = "110MiB"
"""For one replica of the demo model with two slots, and not for two."""


class Fleet:
    """`neurons` by name. Everything ends with the block that made it."""

    def __init__(self, folder: Path, stack: ExitStack) -> None:
        self.folder = folder
        self.neurons: dict[str, Node] = {}
        self.cortex: Node
        self.key = ""
        self._stack = stack
        self._settings: Sequence[str] = ()
        self.config: Path | None = None

    @property
    def home(self) -> Path:
        return self.folder / "home"

    @property
    def url(self) -> str:
        return str(self.cortex.ready["gateway_url"])

    def start_cortex(self, settings: Sequence[str] = ()) -> Node:
        """With `--set` for each of the settings; those of the last time where none are given."""
        self._settings = settings or self._settings
        self.cortex = self._stack.enter_context(
            started(
                "cortex",
                *("--home", str(self.home)),
                *("--mesh-socket", "127.0.0.1:0"),
                *("--gateway-socket", "127.0.0.1:0"),
                *("--orchestrator-socket", "127.0.0.1:0"),
                *(("--config", str(self.config)) if self.config else ()),
                *(word for one in self._settings for word in ("--set", one)),
                cwd=self.folder,
            )
        )
        assert self.cortex.ready
        if not self.key:
            self.key = str(helexa("keys", "create", "test", home=self.home)["secret"])
        return self.cortex

    def start_neuron(
        self, name: str, models: Sequence[str] = (), *more: str, room: str = ROOM
    ) -> Node:
        """One that has copies of the demo model under these names."""
        folder = self.folder / f"models-{name}"
        folder.mkdir(exist_ok=True)
        for model in models:
            if not (folder / f"{model}.gguf").exists():
                shutil.copy(DEMO, folder / f"{model}.gguf")
        node = self._stack.enter_context(
            started(
                "neuron",
                *("--home", str(self.folder / f"home-{name}")),
                *("--control-socket", "127.0.0.1:0"),
                *("--api-socket", "127.0.0.1:0"),
                *("--models-dir", str(folder)),
                *("--set", f"neuron.name={name}"),
                *("--set", "neuron.demo_models=false"),
                *("--set", f"neuron.memory_limit={room}"),
                *("--set", f"neuron.slots={SLOTS}"),
                *("--cortex", str(self.cortex.ready["ticket"])),
                *more,
                cwd=self.folder,
            )
        )
        self.neurons[name] = node
        node_id = node.ready["node_id"]
        until(self.present, lambda found: node_id in found, missing=node.log)
        return node

    def present(self) -> list[str]:
        rows = self.control("/api/v1/nodes")["nodes"]
        return [row["node"] for row in rows if row["presence"] == "present"]

    def chat(
        self, model: str, question: str = "What is helexa?", **more: Any
    ) -> tuple[int, dict[str, Any]]:
        status, body = ask(self.url, CHAT, question_to(model, question, **more), key=self.key)
        return status, body

    def loaded(self) -> dict[str, list[str]]:
        """Names of neurons by the model that each has loaded."""
        found: dict[str, list[str]] = {}
        for row in self.control("/api/v1/placements")["placements"]:
            if row["state"] == "loaded":
                found.setdefault(row["model"], []).append(row["neuron"])
        return found

    def control(self, path: str, body: object = None) -> Any:
        """An answer of the control API that is no refusal."""
        token = (self.home / "cortex" / "admin.token").read_text().strip()
        url = str(self.cortex.ready["orchestrator_url"])
        status, answer = ask(url, path, body, key=token)
        assert status < 300, answer
        return answer

    def mark(self, name: str, word: str) -> None:
        """`drain`, `undrain`, `cordon` or `uncordon` a neuron."""
        self.control(f"/api/v1/nodes/{name}/{word}", {})

    def story(self) -> str:
        """What the cortex did with its models, for a test that failed."""
        told = (event for event in self.cortex.events if "kind" in event)
        self.cortex.told("")
        return self.cortex.log() + "\n".join(json.dumps(event) for event in told)

    def states(self) -> dict[tuple[str, str], str]:
        """By neuron's name and model."""
        rows = self.control("/api/v1/placements")["placements"]
        return {(row["neuron"], row["model"]): row["state"] for row in rows}


def question_to(model: str, question: str = "What is helexa?", **more: Any) -> dict[str, Any]:
    return {
        "model": model,
        "messages": [{"role": "user", "content": question}],
        "temperature": 0,
        **more,
    }


@contextmanager
def fleet(
    folder: Path, settings: Sequence[str] = (), *, config: Path | None = None
) -> Iterator[Fleet]:
    """A cortex without neurons yet."""
    with ExitStack() as stack:
        made = Fleet(folder, stack)
        made.config = config
        made.start_cortex(settings)
        yield made


def said(body: Mapping[str, Any]) -> str:
    return str(body["choices"][0]["message"]["content"])
