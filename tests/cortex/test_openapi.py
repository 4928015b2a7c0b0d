"""The OpenAPI document: valid, complete, and true under everything that a fuzzer sends."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import anyio.from_thread
import pytest
from openapi_spec_validator import validate
from tests.cortex.whole import Whole, whole

from helexa.cortex.settings import ModelEntry

SEED = int(os.environ.get("SEED", "1"))
"""`SEED=n pytest` looks elsewhere; a seed finds the same again."""
KEPT = ModelEntry(id="kept", replicas_min=1, source="hf:somebody/something")

FUZZER = """
{parameters}

[checks.not_a_server_error]
# A neuron's refusal and a lack of neurons are no faults of the API; a 500 always is.
expected-statuses = ["2xx", "3xx", "4xx", "502", "503", "504", "507"]

[[operations]]
# What these take is a matter of meaning: a ticket, a setting and its value, a source, an entry.
include-path = [
  "/api/v1/mesh/policy", "/api/v1/mesh/join", "/api/v1/models/{{model}}/pull",
  "/api/v1/catalogue/{{model}}",
]
[operations.checks.positive_data_acceptance]
expected-statuses = ["2xx", "400", "401", "403", "404", "409", "429", "5xx"]
"""


@pytest.fixture(scope="module")
def live(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Whole]:
    home = tmp_path_factory.mktemp("home") / "cortex"
    with (
        anyio.from_thread.start_blocking_portal() as portal,
        portal.wrap_async_context_manager(whole(home, KEPT)) as running,
    ):
        yield running


@pytest.fixture(scope="module")
def document(live: Whole) -> dict[str, Any]:
    request = urllib.request.Request(
        f"{live.url}/api/v1/openapi.json", headers={"authorization": f"Bearer {live.token}"}
    )
    with urllib.request.urlopen(request, timeout=10) as response:
        return dict(json.load(response))


def test_the_document_is_valid_openapi(document: dict[str, Any]) -> None:
    assert document["openapi"] == "3.1.0"
    validate(document)


def test_every_path_of_the_page_for_people_is_in_the_document_and_the_other_way(
    document: dict[str, Any],
) -> None:
    page = (Path(__file__).parents[2] / "docs" / "http-api.md").read_text()
    orchestrator = page[page.index("## Orchestrator") : page.index("## Portal")]
    named = {
        (method, path)
        for method, path in re.findall(r"^\| ([A-Z]+) \| `([^`]+)` \|", orchestrator, re.MULTILINE)
    }
    told = {
        (method.upper(), path)
        for path, methods in document["paths"].items()
        if path.startswith("/api")
        for method in methods
    }
    older = {("GET", "/api/v1/neurons"), ("POST", "/api/v1/neurons/{node}/drain")}
    assert told - older == named


def test_every_call_has_its_refusals_in_the_one_envelope(document: dict[str, Any]) -> None:
    envelope = {"$ref": "#/components/schemas/ErrorEnvelope"}
    for path, methods in document["paths"].items():
        for method, operation in methods.items():
            refusals = {
                status: one for status, one in operation["responses"].items() if status >= "400"
            }
            where = f"{method} {path}"
            assert {"400", "500"} <= refusals.keys(), where
            assert ("401" in refusals) is path.startswith("/api"), where
            assert ("415" in refusals) is (method in ("post", "put", "patch")), where
            for status, one in refusals.items():
                if (path, status) != ("/readyz", "503"):
                    assert one["content"]["application/json"]["schema"] == envelope, where


def fuzz(live: Whole, folder: Path, examples: int, parameters: str = "") -> None:
    config = folder / "schemathesis.toml"
    config.write_text(FUZZER.format(parameters=parameters))
    done = subprocess.run(
        [
            *(str(Path(sys.executable).parent / "st"), "--config-file", str(config), "run"),
            f"{live.url}/api/v1/openapi.json",
            *("--header", f"Authorization: Bearer {live.token}"),
            *("--checks", "all", "--phases", "examples,coverage,fuzzing"),
            *("--seed", str(SEED), "--max-examples", str(examples)),
            # An endless answer has tests of its own.
            *("--exclude-path-regex", "/observe"),
            *("--request-timeout", "10", "--no-color", "--output-truncate", "true"),
        ],
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=110,
        check=False,
    )
    said = "\n".join(line[:500] for line in done.stdout.splitlines())
    assert done.returncode == 0, f"{said}\n{done.stderr[-2000:]}"
    assert re.search(r"[0-9]{3,} generated", said), f"hardly anything was asked: {said}"


def test_a_fuzzer_finds_nothing(live: Whole, tmp_path: Path) -> None:
    fuzz(live, tmp_path, examples=30)


def test_a_fuzzer_finds_nothing_where_the_model_and_the_neuron_are_real(
    live: Whole, tmp_path: Path
) -> None:
    names = f'[parameters]\n"path.model" = "m"\n"path.node" = "{live.neuron.node}"\n'
    fuzz(live, tmp_path, examples=20, parameters=names)
