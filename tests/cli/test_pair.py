"""The parts of `helexa up` that are more than two children."""

from __future__ import annotations

import json
import shlex
from pathlib import Path
from typing import Any

import pytest

from helexa.cli import pair as pair_module
from helexa.cli.client import Client, Refused
from helexa.cli.entry import parser_of, verb_of
from helexa.cli.pair import Pair, curl_line
from helexa.cli.verbs.up import _passed_on
from helexa.config import load
from helexa.config.load import Flags


def pair(home: Path, flags: Flags = {}, passed: tuple[str, ...] = ()) -> Pair:  # noqa: B006 - read only
    return Pair(load({"home": ("--home", str(home)), **flags}, {}), passed, lambda _event: None)


def test_the_curl_line_is_one_line_that_a_shell_reads_back() -> None:
    line = curl_line("http://127.0.0.1:8080/v1", "hx_live_'; rm -rf x", ["it's"])
    assert "\n" not in line
    words = shlex.split(line)
    assert words[:2] == ["curl", "http://127.0.0.1:8080/v1/chat/completions"]
    assert "Authorization: Bearer hx_live_'; rm -rf x" in words
    assert json.loads(words[words.index("-d") + 1])["model"] == "it's"


def test_both_children_get_what_the_operator_asked_for(tmp_path: Path) -> None:
    words = ["--models-dir", "m", "--set", "neuron.slots=2", "--gateway-socket", "127.0.0.1:1"]
    args = parser_of("up", verb_of("up")).parse_args([*words, "--home", "h"])
    passed = _passed_on(args)
    assert sorted(passed[1::2]) == ["neuron.models_dir=m", "neuron.slots=2"]
    assert set(passed[::2]) == {"--set"}
    for argv in (
        pair(tmp_path, passed=tuple(passed))._cortex_argv(),
        pair(tmp_path, passed=tuple(passed))._neuron_argv(),
    ):
        word, *flags = argv[3:]
        read = parser_of(word, verb_of(word)).parse_args(flags)
        assert ("neuron.slots", "2") in read.assignments
        assert vars(read)["home"] == str(tmp_path)


def test_links_stay_on_loopback_unless_the_operator_opens_them(tmp_path: Path) -> None:
    closed = pair(tmp_path)
    assert closed._cortex_argv()[-2:] == ["--mesh-socket", "127.0.0.1:0"]
    assert closed._neuron_argv()[-2:] == ["--control-socket", "127.0.0.1:0"]
    opened = pair(
        tmp_path,
        {
            "cortex.mesh_socket": ("--mesh-socket", "0.0.0.0:4433"),
            "neuron.control_socket": ("--control-socket", "0.0.0.0:4434"),
        },
    )
    assert "--mesh-socket" not in opened._cortex_argv()
    assert "--control-socket" not in opened._neuron_argv()


@pytest.mark.anyio
async def test_a_drained_neuron_is_not_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    """A drain outlives both processes, and nobody who starts them again lifts it by that."""

    async def refuses(*_asked: Any) -> Any:
        raise Refused(503, "draining", "This neuron is being drained; it takes no new work.")

    monkeypatch.setattr(pair_module, "_asked", refuses)
    client = Client("http://127.0.0.1:1", "")
    assert await pair_module._load_on(client, "a" * 64, "m") == (pair_module.DRAINED, "")
