"""A node's folder: claimed by one, private, and honest about who runs."""

from __future__ import annotations

import json
import os
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from helexa.util.home import HomeUnusable, announced, claimed, secret_token


def test_a_folder_is_claimed_by_one_node_at_a_time(tmp_path: Path) -> None:
    home = tmp_path / "node"
    refused = pytest.raises(HomeUnusable, match=rf"pid {os.getpid()}.*--home")
    with claimed(home), refused, claimed(home):
        pass
    with claimed(home):
        assert stat.S_IMODE(home.stat().st_mode) == 0o700


def test_a_killed_node_leaves_its_folder_free(tmp_path: Path) -> None:
    code = (
        "import os, sys; from pathlib import Path; from helexa.util.home import claimed\n"
        "with claimed(Path(sys.argv[1])): os.kill(os.getpid(), 9)"
    )
    died = subprocess.run([sys.executable, "-c", code, str(tmp_path)], check=False)
    assert died.returncode == -9
    with claimed(tmp_path):
        pass


def test_a_token_is_made_once_and_private(tmp_path: Path) -> None:
    path = tmp_path / "admin.token"
    token = secret_token(path)
    assert secret_token(path) == token
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


def test_a_token_that_others_can_read_is_refused_with_the_fix(tmp_path: Path) -> None:
    path = tmp_path / "admin.token"
    secret_token(path)
    path.chmod(0o644)
    with pytest.raises(HomeUnusable, match="chmod 600"):
        secret_token(path)


def test_an_emptied_token_file_is_refused_and_not_replaced(tmp_path: Path) -> None:
    path = tmp_path / "admin.token"
    path.touch(0o600)
    with pytest.raises(HomeUnusable, match="holds no token"):
        secret_token(path)
    assert path.read_text() == ""


def test_where_a_node_runs_is_written_while_it_runs_and_no_longer(tmp_path: Path) -> None:
    with announced(tmp_path, {"api_url": "http://127.0.0.1:1"}):
        facts = json.loads((tmp_path / "run.json").read_text())
        assert facts == {"api_url": "http://127.0.0.1:1", "pid": os.getpid()}
    assert not (tmp_path / "run.json").exists()
