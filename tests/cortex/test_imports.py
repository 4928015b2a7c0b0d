"""A cortex costs the memory of what it was asked to do: its roles are imported when given.

Thirty cortexes on one machine, or one on a small board, are members of the mesh and
little else. What a role brings is megabytes each: SQLAlchemy 14, uvicorn and Starlette
5, Prometheus 2, Jinja2 2.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys

import pytest

PROGRAM = """
import asyncio, json, sys
from pathlib import Path
from helexa.cli.verbs import cortex
from helexa.cortex.app import running
from helexa.cortex.settings import CortexSettings
from helexa.util.sockets import Address

async def main():
    loopback = Address("127.0.0.1", 0)
    given = {role: (loopback,) if role == "portal_sockets" else loopback for role in sys.argv[2:]}
    settings = CortexSettings(home=Path(sys.argv[1]), mesh_socket=loopback, **given)
    async with running(settings):
        print(json.dumps(sorted(sys.modules)))

asyncio.run(main())
"""

DATABASE = ("sqlalchemy", "sqlite3")
HTTP = ("uvicorn", "starlette", "prometheus_client")
PAGES = ("jinja2",)
# What a websocket needs comes with the first one.
WATCHED = ("wsproto", "uvicorn.protocols.websockets.wsproto_impl")
NEVER = (
    # On loopback there is nobody to find by multicast, and no name to look up.
    *("zeroconf", "dns"),
    # What runs models; `importlib.metadata` for the e-mail parser and zip files behind it.
    *("xllamacpp", "helexa.neuron.app", "importlib.metadata"),
)

CASES = {
    "a member of the mesh alone": ((), (*DATABASE, *HTTP, *PAGES)),
    "an orchestrator": (("orchestrator_socket",), (*DATABASE, *PAGES, *WATCHED)),
    "a portal": (("portal_sockets",), DATABASE),
    "a gateway": (("gateway_socket",), PAGES),
}


def loaded(home, roles):
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, str(home), *roles],
        # Measured coverage brings its own database into every child.
        env={name: value for name, value in os.environ.items() if "COVERAGE" not in name},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return set(json.loads(done.stdout.splitlines()[-1]))


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.replace(" ", "_"))
def test_a_cortex_imports_only_what_its_roles_need(tmp_path, case):
    roles, unwanted = CASES[case]
    found = loaded(tmp_path / "home", roles) & {*unwanted, *(NEVER if not roles else ())}
    assert not found, (
        f"{case} imports {', '.join(sorted(found))}. Find who does with `python -X importtime -c "
        "'import helexa.cortex.app'`, and import it where the role that needs it is opened (see "
        "helexa/cortex/app.py), under `if TYPE_CHECKING` where it is needed for a type alone."
    )


def test_a_role_that_is_given_is_there(tmp_path):
    """Else the test above would pass for a cortex that starts nothing."""
    roles = ("orchestrator_socket", "gateway_socket", "portal_sockets")
    assert {*DATABASE, *HTTP, *PAGES} <= loaded(tmp_path / "home", roles)
