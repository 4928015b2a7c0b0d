"""Every example of the page about the catalogue is one that a cortex would start with."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from tests.meta.sources import ROOT

from helexa.config import ConfigRefused, load
from helexa.config.catalogue import ENTRY_SETTINGS

PAGE = (ROOT / "docs" / "catalogue.md").read_text()
BLOCKS = re.findall(r"^```toml\n(.*?)^```", PAGE, re.MULTILINE | re.DOTALL)


@pytest.mark.parametrize("block", BLOCKS, ids=lambda text: text.split("id = ")[1].split("\n")[0])
def test_an_example_loads(block: str, tmp_path: Path) -> None:
    file = tmp_path / "helexa.toml"
    file.write_text(block)
    config = load({}, {}, file=file, roles=("cortex",))
    assert len(config.cortex.models) == block.count("[[models]]") > 0


def test_the_examples_use_nearly_every_setting() -> None:
    unused = {name for name in ENTRY_SETTINGS if not re.search(rf"^{name} = ", PAGE, re.MULTILINE)}
    assert unused == {"runtime", "arguments", "deterministic"}, "named in the text"
    assert all(f"`{name}`" in PAGE for name in unused)


def test_the_refusals_on_the_page_are_those_that_are_told(tmp_path: Path) -> None:
    shown = re.findall(r"^helexa: helexa\.toml:(.*)$", PAGE, re.MULTILINE)
    file = tmp_path / "helexa.toml"
    text = "[[models]]\nid = 'team/large'\n\n\n\n\n[[models]]\nid = 'team/small'\nslots = 0\n\n\n"
    file.write_text(f"{text}fallback = []\n")
    with pytest.raises(ConfigRefused) as refused:
        load({}, {}, file=file, roles=("cortex",))
    told = [line.removeprefix(f"{file}:") for line in str(refused.value).splitlines()]
    assert sorted(told) == sorted(shown)
