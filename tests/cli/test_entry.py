"""The command line itself: verbs, help, refusals, exit statuses. Run as a person runs it."""

# ruff: noqa: ISC004 - bodies and command lines read best as they would be written.

from __future__ import annotations

import json
import os
import shlex
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from helexa.cli import entry, verbs
from helexa.cli.verb import Failed

SCREEN_LINES = 40
SCREEN_COLUMNS = 100


def helexa(
    *argv: str, environment: dict[str, str] | None = None
) -> subprocess.CompletedProcess[str]:
    clean = {key: value for key, value in os.environ.items() if not key.startswith("HELEXA_")}
    return subprocess.run(
        [sys.executable, "-m", "helexa", *argv],
        capture_output=True,
        text=True,
        env=clean | (environment or {}),
        check=False,
    )


def help_of(word: str) -> str:
    return entry.parser_of(word, entry.verb_of(word)).format_help()


def test_every_file_among_the_verbs_is_a_verb() -> None:
    folder = Path(str(verbs.__file__)).parent
    assert {path.stem for path in folder.glob("*.py")} - {"__init__"} == set(entry.VERBS)


@pytest.mark.parametrize("word", entry.VERBS)
def test_a_verb_s_help_fits_one_screen_and_shows_an_example(word: str) -> None:
    text = help_of(word)
    lines = text.splitlines()
    assert len(lines) <= SCREEN_LINES, f"{len(lines)} lines: give flags to fewer settings"
    assert max(map(len, lines)) <= SCREEN_COLUMNS
    assert f"example:\n  helexa {word}" in text
    assert "--json" in text


@pytest.mark.parametrize("word", entry.VERBS)
def test_a_verb_s_example_parses(word: str) -> None:
    verb = entry.verb_of(word)
    argv = shlex.split(verb.EXAMPLE.replace("\\\n", " "))
    assert argv[:2] == ["helexa", word]
    entry.parser_of(word, verb).parse_args(argv[2:])


@pytest.mark.parametrize(
    "line",
    [
        "cortex --orchestrator-socket 0.0.0.0:8040 --gateway-socket 0.0.0.0:8080"
        " --portal-socket 0.0.0.0:8091",
        "cortex --portal-socket 0.0.0.0:1 --portal-socket 0.0.0.0:2 --mesh-socket 0.0.0.0:0",
        "neuron --control-socket 0.0.0.0:9050 --api-socket 127.0.0.1:8060"
        " --models-dir /var/lib/helexa/models",
        "neuron --cortex a --cortex b --preload m --no-demo-models --name n --region r --json",
        "up --home h --gateway-socket 127.0.0.1:0 --portal-socket 127.0.0.1:0"
        " --orchestrator-socket 127.0.0.1:0 --models-dir m --json",
        "keys revoke laptop --url http://127.0.0.1:8040 --admin-token t",
        "models unload team/model-7b --node n --json",
        "models ls",
        "models pull team/m --node a --node b --source hf:o/r --quantisation Q4_K_M --pin --detach",
        "models pull m --cancel --everywhere",
        "models rm m --node a",
        "nodes drain a --wait --within 10m",
        "catalogue set m source=hf:o/r aliases=a,b*2",
        "explain --model m --workload embedding --session s",
        "mesh ticket --invite --uses 3 --expires 7d --role neuron --trust trusted",
        "mesh policy set 'lend_classes=!chat_*' --home h",
        "mesh peers --wait 2 --wait-offers m --watch --json",
        "cortex --join t --join u --admission invite --no-lan",
        "neuron --no-lan --no-demo-models",
    ],
)
def test_the_documented_command_lines_parse(line: str) -> None:
    word, *argv = shlex.split(line)
    entry.parser_of(word, entry.verb_of(word)).parse_args(argv)


def test_the_overview_names_every_verb_and_needs_no_node() -> None:
    done = helexa("--help")
    assert done.returncode == 0
    assert len(done.stdout.splitlines()) <= SCREEN_LINES
    for word in entry.VERBS:
        assert f"\n  {word} " in done.stdout
    loaded = subprocess.run(
        [
            sys.executable,
            "-c",
            "import sys\nfrom helexa.cli import entry\nentry.enter(['--help'])\n"
            "heavy = {'sqlalchemy', 'iroh', 'uvloop', 'starlette', 'uvicorn', 'nacl'}\n"
            "found = heavy & sys.modules.keys()\n"
            "sys.exit(f'imported: {found}' if found else 0)",
        ],
        capture_output=True,
        text=True,
        check=False,
    )
    assert loaded.returncode == 0, loaded.stderr


@pytest.mark.parametrize(
    ("argv", "words"),
    [
        ([], "usage: helexa VERB"),
        (["cortx"], "'cortx' is not a verb"),
        (["cortex", "--gatway-socket", "x"], "unrecognized arguments"),
        (["cortex", "--set", "nonsense"], "'nonsense' is not KEY=VALUE"),
        (["keys", "create", "a", "--name", "b"], "create takes one name"),
        (["keys", "revoke"], "revoke needs a key's id"),
        (["keys", "list", "x"], "list takes no 'x'"),
        (["models", "load"], "load needs a model's name"),
        (["models", "list", "x"], "list takes no model"),
    ],
)
def test_a_command_line_that_cannot_be_read_exits_2(argv: list[str], words: str) -> None:
    done = helexa(*argv)
    assert done.returncode == 2
    assert words in done.stdout + done.stderr


def test_refused_settings_are_one_line_each_without_a_traceback() -> None:
    done = helexa("cortex", "--gateway-socket", "8080", "--set", "cortex.queue_max=many")
    assert done.returncode == 1
    assert done.stderr.splitlines() == [
        (
            "helexa: --gateway-socket: cortex.gateway_socket: '8080' is not a socket; write "
            "HOST:PORT with a port from 0 to 65535, for example 127.0.0.1:8080; accepted: "
            "HOST:PORT or [IPV6]:PORT; port 0 takes a free one"
        ),
        (
            "helexa: --set cortex.queue_max: cortex.queue_max: 'many' is not a whole number; "
            "accepted: a whole number from 0 to 1000000"
        ),
    ]


def test_a_refusal_is_an_event_too_for_those_who_read_events() -> None:
    done = helexa("up", "--json", "--gateway-socket", "8080")
    event = json.loads(done.stdout)
    assert done.returncode == 1
    assert event["event"] == "error"
    assert event["message"].startswith("--gateway-socket: up.gateway_socket")


@pytest.mark.parametrize(
    ("argv", "key"),
    [
        (["cortex", "--gateway-socket"], "--gateway-socket: cortex.gateway_socket"),
        (["up", "--portal-socket"], "--portal-socket: up.portal_socket"),
        (["neuron", "--api-socket"], "--api-socket: neuron.api_socket"),
    ],
)
def test_a_taken_port_is_a_refusal_that_names_the_flag_and_the_holder(
    tmp_path: Path, argv: list[str], key: str
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as holder:
        port = holder.getsockname()[1]
        done = helexa(*argv, f"127.0.0.1:{port}", "--home", str(tmp_path))
    assert done.returncode == 1
    (line,) = [one for one in done.stderr.splitlines() if one.startswith("helexa: ")]
    assert line.startswith(f"helexa: {key}: cannot listen on 127.0.0.1:{port}: Address already")
    assert f"(pid {os.getpid()})" in line
    assert "port 0 takes a free one" in line


def test_two_roles_on_one_socket_do_not_start() -> None:
    done = helexa("up", "--gateway-socket", "127.0.0.1:4", "--portal-socket", "127.0.0.1:4")
    assert done.returncode == 1
    assert "127.0.0.1:4 is already taken by up.gateway_socket (--gateway-socket)" in done.stderr


def test_a_reader_that_leaves_is_no_fault() -> None:
    done = subprocess.run(
        f"{shlex.quote(sys.executable)} -m helexa config reference | head -c 10",
        shell=True,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.stderr == ""


def test_an_unexpected_fault_is_one_line_and_a_traceback_for_those_who_ask(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    verb = entry.verb_of("version")

    def fault(_args: object) -> int:
        raise IndexError("broken")

    monkeypatch.setattr(verb, "run", fault)
    monkeypatch.delenv("HELEXA_DEBUG", raising=False)
    assert entry.enter(["version"]) == 1
    said = capsys.readouterr().err
    assert said.startswith("helexa: internal fault: IndexError")
    assert "Traceback" not in said
    monkeypatch.setenv("HELEXA_DEBUG", "1")
    assert entry.enter(["version"]) == 1
    assert "Traceback" in capsys.readouterr().err


def test_a_failure_inside_task_groups_is_told_in_its_own_words() -> None:
    nested = ExceptionGroup("tasks", [ExceptionGroup("tasks", [Failed("the disk is full")])])
    assert entry.told(nested) == ["the disk is full"]


def test_version_names_the_parts() -> None:
    found = json.loads(helexa("version", "--json").stdout)
    assert found["protocol"] == "1..1"
    assert "missing" not in found.values()
