"""The locks: complete, hashed, free of addresses, and of one mind about versions."""

from __future__ import annotations

import re
import tomllib
from typing import Any

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from tests.meta.sources import ROOT

LOCKS = ("build.txt", "run.txt", "dev.txt")


def project() -> dict[str, Any]:
    return tomllib.loads((ROOT / "pyproject.toml").read_text())


def pinned(name: str) -> dict[str, str]:
    text = (ROOT / "requirements" / name).read_text()
    return dict(re.findall(r"^([a-z0-9._-]+)(?:\[[^\]]*\])?==([^\s;\\]+)", text, re.MULTILINE))


def asked_for(lock: str) -> list[Requirement]:
    document = project()
    groups = document["dependency-groups"]
    texts = {
        "build.txt": groups["build"],
        "run.txt": document["project"]["dependencies"],
        "dev.txt": [*document["project"]["dependencies"], *groups["dev"]],
    }[lock]
    return [Requirement(text) for text in texts]


@pytest.mark.parametrize("lock", LOCKS)
def test_a_lock_holds_what_the_project_asks_for(lock: str) -> None:
    versions = pinned(lock)
    for wanted in asked_for(lock):
        version = versions.get(canonicalize_name(wanted.name))
        assert version is not None, f"{wanted} is not locked: run `make lock`"
        assert wanted.specifier.contains(version), f"{wanted} is locked at {version}: `make lock`"


@pytest.mark.parametrize("lock", LOCKS)
def test_every_file_in_a_lock_is_known_by_hash_and_by_no_address(lock: str) -> None:
    text = (ROOT / "requirements" / lock).read_text()
    entries = re.split(r"^(?=[a-z0-9])", text, flags=re.MULTILINE)[1:]
    assert entries
    assert all("--hash=sha256:" in entry for entry in entries)
    assert not re.search(r"https?:|file:|--(extra-)?index|--find-links", text)


def test_tests_run_on_the_versions_that_production_runs_on() -> None:
    run, dev = pinned("run.txt"), pinned("dev.txt")
    assert {name: dev.get(name) for name in run} == run
