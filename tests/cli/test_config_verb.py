"""`helexa config`: what is in force and why."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from helexa.cli.entry import enter


def test_show_says_where_each_value_came_from(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "helexa.toml"
    file.write_text("[cortex]\nqueue_max = 7\n")
    monkeypatch.setenv("HELEXA_NEURON_SLOTS", "2")
    argv = ["config", "show", "--origin", "--changed", "--config", str(file), "--home", "/h"]
    assert enter(argv) == 0
    rows = [line.split() for line in capsys.readouterr().out.splitlines()]
    assert rows == [
        ["SETTING", "VALUE", "ORIGIN"],
        ["home", '"/h"', "--home"],
        ["cortex.queue_max", "7", f"{file}:2"],
        ["neuron.slots", "2", "HELEXA_NEURON_SLOTS"],
    ]


def test_show_has_every_setting_in_json(capsys: pytest.CaptureFixture[str]) -> None:
    from helexa.config.catalogue import SETTINGS

    assert enter(["config", "show", "--json"]) == 0
    shown = json.loads(capsys.readouterr().out)
    assert set(shown) == set(SETTINGS)
    assert shown["up.gateway_socket"] == {"value": "127.0.0.1:8080", "origin": "default"}
