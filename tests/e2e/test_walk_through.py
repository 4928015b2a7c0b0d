"""`docs/federation.md`, run as a reader runs it: every block of it, in order, in one shell.

Nine real processes on the page's own ports. The test adds nothing but a line before
each answer, so that what a client got can be told apart from what the page printed.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil
import pytest
from tests.e2e.processes import UNSEEN, with_suppress_kill

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(300)]

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "docs" / "federation.md"
BLOCK = re.compile(r"^```sh\n(.*?)^```", re.MULTILINE | re.DOTALL)
ASKED = re.compile(r"^ask ", re.MULTILINE)
MARK = "--- asked"


@dataclass(frozen=True)
class Answer:
    status: int
    served_by: str
    body: dict[str, Any]

    @property
    def refusal(self) -> str:
        return str(self.body["error"]["message"])

    @property
    def text(self) -> str:
        return str(self.body["choices"][0]["message"]["content"])


def script() -> str:
    page = "\n".join(BLOCK.findall(PAGE.read_text()))
    return ASKED.sub(f"echo; echo '{MARK}'\nask ", page)


def answers(printed: str) -> list[Answer]:
    found = []
    for one in printed.split(MARK)[1:]:
        head, _, rest = one.strip().replace("\r", "").partition("\n\n")
        by = re.search(r"^x-helexa-served-by: .*; via=(.*)$", head, re.MULTILINE)
        body, _ = json.JSONDecoder().raw_decode(rest)
        found.append(Answer(int(head.split()[1]), by[1] if by else "", body))
    return found


def processes_of(folder: Path) -> list[psutil.Process]:
    """Whatever runs on a home in that folder: nodes, and the runtimes below them."""
    found = []
    for one in psutil.process_iter():
        try:
            if any(str(folder) in word for word in one.cmdline()):
                found += [one, *one.children(recursive=True)]
        except psutil.Error:
            continue  # It ended meanwhile, or is none of ours.
    return found


def run(folder: Path) -> str:
    """What the page's commands print. A command that fails ends the page there."""
    with (folder / "page.out").open("w+") as out, (folder / "page.err").open("w+") as err:
        shell = subprocess.Popen(
            ["bash", "-eu", "-o", "pipefail", "-c", script()],
            cwd=ROOT,
            env={**os.environ, **UNSEEN, "FED": str(folder / "fed")},
            stdin=subprocess.DEVNULL,
            stdout=out,
            stderr=err,
        )
        try:
            status = shell.wait(240)
        finally:
            left = processes_of(folder / "fed")
            for one in (psutil.Process(shell.pid), *left) if shell.poll() is None else left:
                with_suppress_kill(one)
            shell.wait()
        printed, complaints = (Path(each.name).read_text() for each in (out, err))
    assert status == 0, f"{printed}\n{complaints}"
    assert not left, f"the page left {left} behind"
    return printed


def test_the_page_does_what_it_says(tmp_path: Path) -> None:
    """A stranger's model is refused, a trusted one's served; policy and death are told."""
    stranger, served, forbidden, allowed, dead, returned = answers(run(tmp_path))

    assert stranger.status == 503
    assert "cortex ben is stranger here" in stranger.refusal
    assert "(borrow_from)" in stranger.refusal

    assert (served.status, served.served_by) == (200, "ben")
    assert "helexa" in served.text

    assert forbidden.status == 503
    assert "cortex ben" in forbidden.refusal
    assert "lends no chat_interactive to other operators (lend_classes)" in forbidden.refusal

    assert (allowed.status, allowed.served_by, allowed.text) == (200, "ben", served.text)

    assert dead.status == 503
    # The link that broke, or what was known of it when the question came.
    assert "cortex ben is gone" in dead.refusal or "cortex ben was lost" in dead.refusal

    assert (returned.status, returned.served_by, returned.text) == (200, "ben", served.text)
