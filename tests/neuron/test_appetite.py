"""What a child holds, and how much is too much."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from helexa.neuron.supervisor.appetite import SLACK_BYTES, held_bytes, limit_bytes

BELOW = "import subprocess, sys; subprocess.run([sys.executable, '-c', sys.argv[1]])"
HOLDS = "x = b'x' * (64 << 20); print('held', flush=True); input()"


def test_small_models_have_slack_and_who_has_no_grant_no_limit() -> None:
    assert limit_bytes(10, 2.0) == 20 + SLACK_BYTES
    assert limit_bytes(0, 2.0) == 0
    assert limit_bytes(10, 0.0) == 0


def test_what_a_process_below_the_first_holds_counts() -> None:
    words = [sys.executable, "-c", BELOW, HOLDS]
    with subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"held\n"
        assert 64 << 20 < held_bytes(process.pid) < 256 << 20
        process.communicate(b"\n")
    assert held_bytes(process.pid) == 0


def test_files_that_could_be_given_back_do_not_count(tmp_path: Path) -> None:
    (tmp_path / "7" / "task" / "7").mkdir(parents=True)
    (tmp_path / "7" / "statm").write_text("9000 5000 4000 1 0 4000 0\n")
    (tmp_path / "7" / "task" / "7" / "children").write_text("8 9 ")
    assert held_bytes(7, tmp_path) == 1000 * os.sysconf("SC_PAGESIZE")
