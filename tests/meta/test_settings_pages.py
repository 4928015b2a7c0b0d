"""The example file and the reference are what the catalogue says, and the example loads."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from tests.meta.sources import ROOT

from helexa.config import load, render
from helexa.config.catalogue import ENTRY_SETTINGS, NAMED_SETTINGS, SECTIONS, SETTINGS
from helexa.config.words import WORDS

OF_ENTRIES = {one.key: one for one in ENTRY_SETTINGS.values()}
EXAMPLE = ROOT / "helexa.example.toml"


def test_the_example_file_is_the_generated_one() -> None:
    assert EXAMPLE.read_text() == render.example(), "run `make docs`"


def test_the_reference_is_the_generated_one() -> None:
    assert (ROOT / "docs" / "settings.md").read_text() == render.reference(), "run `make docs`"


def switched_on(text: str) -> str:
    return re.sub(rf"^{render.MARK}(?=[a-z0-9_]+ = |\[)", "", text, flags=re.MULTILINE)


def test_the_example_loads_as_it_is_and_changes_nothing() -> None:
    config, default = load({}, {}, file=EXAMPLE), load({}, {})
    assert config.cortex == default.cortex
    assert config.neuron.models.pop("helexa-demo") is not None
    assert config.neuron == default.neuron
    assert config.up == default.up


def test_the_example_has_every_setting_and_loads_with_all_of_them_on(tmp_path: Path) -> None:
    file = tmp_path / "helexa.toml"
    file.write_text(switched_on(EXAMPLE.read_text()))
    config = load({}, {}, file=file, roles=("cortex",))
    for key, setting in SETTINGS.items():
        found = config.values[key]
        assert str(found.origin).startswith(f"{file}:"), f"{key} is not in the example"
        if setting.default not in (None, ()) or setting.example is None:
            machine = ("home", "neuron.models_dir")
            assert key in machine or found.value == setting.default, key
    for section, named in NAMED_SETTINGS.items():
        for name in named:
            assert f"{section}.{render.EXAMPLE_NAMES[section]}.{name}" in config.values
    (entry,) = config.cortex.models
    for name in ENTRY_SETTINGS:
        assert f"models[0] ({entry.id}).{name}" in config.values


@pytest.mark.parametrize("key", sorted({**SETTINGS, **OF_ENTRIES}))
def test_every_setting_has_a_row_in_the_reference(key: str) -> None:
    section, _, name = key.rpartition(".")
    title = f"## [{section}]" if section else "## Top level"
    title = "## [[models]]" if section == "models" else title
    page = (ROOT / "docs" / "settings.md").read_text()
    part = page.partition(f"{title}\n")[2].partition("\n## ")[0]
    assert f"\n| `{name}` |" in part


def test_every_explained_setting_exists() -> None:
    named = {f"{section}.{name}" for section, of in NAMED_SETTINGS.items() for name in of}
    known = {*SETTINGS, *OF_ENTRIES} | named
    assert set(WORDS) == known
    assert set(SECTIONS) <= set(render.SECTION_WORDS)
