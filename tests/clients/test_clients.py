"""Each client, unmodified, against a real gateway, a real neuron and real models."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.clients import page
from tests.clients.conftest import Gateway
from tests.clients.matrix import (
    CLIENT_TIMEOUT_S,
    CLIENTS,
    FEATURES,
    Client,
    Told,
    command,
    placed,
    run,
    surroundings,
)

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(2 * CLIENT_TIMEOUT_S)]

each = pytest.mark.parametrize("client", CLIENTS, ids=[one.file for one in CLIENTS])
_found: dict[str, Told] = {}


@pytest.fixture(scope="module", autouse=True)
def record(request: pytest.FixtureRequest) -> Iterator[None]:
    yield
    if request.config.getoption("--write-page"):
        page.write(_found)


@each
def test_everything_that_it_does_works(client: Client, gateway: Gateway, tmp_path: Path) -> None:
    told = run(
        client,
        tmp_path,
        {
            "HELEXA_TEST_URL": gateway.url,
            "HELEXA_TEST_KEY": gateway.key,
            "HELEXA_TEST_PICTURE": str(gateway.picture),
            "HELEXA_TEST_SEEN": gateway.seen,
        },
    )
    assert told.versions, told.log
    assert told.checks, told.log
    failed = told.failures
    assert not failed, "\n".join(f"{name}: {why}" for name, why in failed.items())
    assert all(set(one["features"]) <= set(FEATURES) for one in told.checks)
    _found[client.file] = told


@each
def test_what_the_page_says_works_as_it_stands(
    client: Client, gateway: Gateway, tmp_path: Path
) -> None:
    language, text = client.snippet
    text = text.replace("http://127.0.0.1:8080", gateway.url).replace("KEY", gateway.key)
    if language == "sh":
        words = ["bash", "-euc", text]
    else:
        beside = placed(client).parent if language == "js" else tmp_path
        file = beside / f"snippet.{'mjs' if language == 'js' else 'py'}"
        file.write_text(text, encoding="utf-8")
        words = [*command(client), str(file)]
    done = subprocess.run(
        words,
        cwd=tmp_path,
        env=surroundings(client, tmp_path, {}),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=CLIENT_TIMEOUT_S,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert client.says in done.stdout, done.stdout + done.stderr
