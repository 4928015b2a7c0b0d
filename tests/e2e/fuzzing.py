"""schemathesis against a gateway that runs: whatever its document promises is held against it."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from tests.e2e.processes import Node

SEED = int(os.environ.get("SEED", "1"))
"""`SEED=n pytest` looks elsewhere; a seed finds the same again."""
CONFIG = """

[checks.not_a_server_error]
# That a model is not there or does not answer is no fault of the API; a 500 always is.
expected-statuses = ["2xx", "3xx", "4xx", "502", "503", "504", "507"]

[checks.positive_data_acceptance]
# What a body means is judged by more than a schema: a model by its name, a picture by its bytes.
expected-statuses = ["2xx", "400", "401", "403", "404", "413", "429", "502", "503", "507"]
"""


def fuzz(
    up: Node,
    folder: Path,
    *,
    examples: int,
    models: Sequence[str],
    phases: str = "examples,coverage,fuzzing",
    more: Sequence[str] = (),
    timeout_s: float = 110,
) -> None:
    """Fails with what was found."""
    config = folder / "schemathesis.toml"
    config.write_text(CONFIG)
    done = subprocess.run(
        [
            *(str(Path(sys.executable).parent / "st"), "--config-file", str(config), "run"),
            f"{up.ready['gateway_url']}/openapi.json",
            *("--header", f"Authorization: Bearer {up.ready['api_key']}"),
            *("--checks", "all", "--phases", phases),
            *("--seed", str(SEED), "--max-examples", str(examples)),
            *("--request-timeout", "30", "--no-color", "--output-truncate", "true"),
            *more,
        ],
        cwd=folder,
        env={
            **os.environ,
            "SCHEMATHESIS_HOOKS": "fuzz_hooks",
            "PYTHONPATH": str(Path(__file__).parent),
            "HELEXA_FUZZ_MODELS": ",".join(models),
        },
        capture_output=True,
        text=True,
        timeout=timeout_s,
        check=False,
    )
    said = "\n".join(line[:500] for line in done.stdout.splitlines())
    assert done.returncode == 0, f"{said}\n{done.stderr[-2000:]}"
    assert re.search(r"[0-9]{3,} generated", said), f"hardly anything was asked: {said}"
