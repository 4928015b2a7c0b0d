"""What an environment's torch computes on, read and not imported."""

from __future__ import annotations

from pathlib import Path

import pytest

from helexa.runtime import torch_build


def environment(folder: Path, text: str) -> Path:
    package = folder / "lib/python3.12/site-packages/torch"
    package.mkdir(parents=True)
    (package / "version.py").write_text(text)
    return folder / "bin/python"


@pytest.mark.parametrize(
    ("cuda", "hip", "found"),
    [
        ("None", "None", ()),
        ("'12.8'", "None", ("nvidia",)),
        ("None", "'6.4.43482'", ("amd",)),
    ],
)
def test_a_build_says_for_whom_it_is(
    tmp_path: Path, cuda: str, hip: str, found: tuple[str, ...]
) -> None:
    text = (
        "__all__ = ['__version__', 'debug', 'cuda', 'git_version', 'hip']\n"
        f"__version__ = '2.13.0'\ncuda: Optional[str] = {cuda}\nhip: Optional[str] = {hip}\n"
    )
    assert torch_build.vendors(environment(tmp_path, text)) == found


def test_one_that_lies_elsewhere_is_taken_to_use_devices(tmp_path: Path) -> None:
    assert torch_build.vendors(tmp_path / "bin/python") == ("nvidia", "amd")
