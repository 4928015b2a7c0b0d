"""A child in a sandbox: what its command line says, and with the real engine, what it cannot do.

The engine is tried inside bubblewrap itself. Where that is missing, or may make no
namespaces, the test fails and says so, unless `HELEXA_TEST_NAMESPACES` is `off`.
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import anyio
import psutil
import pytest
from tests.neuron.bench import PATIENCE_S
from tests.neuron.test_app import api, ask, settings

from helexa.mesh.transports.memory import MemoryNetwork
from helexa.neuron.app import running
from helexa.neuron.supervisor import sandbox
from helexa.neuron.supervisor.sandbox import Needs, Sandbox, SandboxUnusable, wrapped
from helexa.protocol.ids import ModelId
from helexa.protocol.work import Device
from helexa.runtime.contract import ModelFiles, ReplicaSpec
from helexa.testing import tiny_gguf

pytestmark = pytest.mark.anyio

BOX = Sandbox(kind="bubblewrap")


def needs(scratch: Path, **more: Any) -> Needs:
    return Needs(scratch=scratch, **more)


def bound(words: Sequence[str], how: str) -> list[str]:
    return [words[at + 1] for at, word in enumerate(words) if word == how]


# --- the command line


def test_the_command_comes_last_and_as_it_is(tmp_path: Path) -> None:
    argv = ("/opt/engine", "--flag", "--")
    assert wrapped(BOX, argv, needs(tmp_path))[-4:] == ["--", *argv]
    assert wrapped(Sandbox(kind="systemd"), argv, needs(tmp_path))[-4:] == ["--", *argv]


def test_only_scratch_and_cache_may_be_written(tmp_path: Path) -> None:
    home, weights = tmp_path / "engines", tmp_path / "m.gguf"
    words = wrapped(BOX, ("x",), needs(tmp_path / "run", home=home, readable=(weights,)))
    assert bound(words, "--bind") == [str(home), str(tmp_path / "run")]
    assert str(weights) in bound(words, "--ro-bind-try")
    assert "/etc" not in words
    assert "/etc/shadow" not in words
    assert "/root" not in words


def test_there_is_a_network_only_for_an_engine_that_listens_on_a_port(tmp_path: Path) -> None:
    assert "--unshare-net" in wrapped(BOX, ("x",), needs(tmp_path))
    assert "--unshare-net" not in wrapped(BOX, ("x",), needs(tmp_path, network=True))


def test_devices_are_there_only_where_they_were_lent(tmp_path: Path) -> None:
    def nodes(*devices: Device) -> list[str]:
        return bound(wrapped(BOX, ("x",), needs(tmp_path, devices=devices)), "--dev-bind-try")

    gpu = Device(index=2, vendor="nvidia", name="H100", memory_bytes=1)
    assert nodes() == []
    assert {"/dev/nvidia2", "/dev/nvidiactl", "/dev/nvidia-uvm"} <= set(nodes(gpu))
    assert "/dev/nvidia0" not in nodes(gpu)
    amd = Device(index=0, vendor="amd", name="MI300X", memory_bytes=1)
    assert nodes(amd) == ["/dev/kfd", "/dev/dri"]


def test_systemd_limits_memory_above_what_was_reckoned(tmp_path: Path) -> None:
    words = wrapped(Sandbox(kind="systemd"), ("x",), needs(tmp_path, memory_bytes=4 << 30))
    assert words[:2] == ["systemd-run", "--scope"]
    assert "--user" not in words
    assert "--user" in wrapped(Sandbox(kind="systemd", of_user=True), ("x",), needs(tmp_path))
    assert f"--property=MemoryMax={5 << 30}" in words
    assert not [
        one for one in wrapped(Sandbox(kind="systemd"), ("x",), needs(tmp_path)) if "Memory" in one
    ]


def test_a_signal_that_ended_the_engine_is_told_as_one() -> None:
    assert sandbox.exit_status(BOX, 137) == -9
    assert sandbox.exit_status(BOX, 3) == 3
    assert sandbox.exit_status(BOX, -9) == -9
    assert sandbox.exit_status(Sandbox(kind="systemd"), 137) == 137


def test_parts_of_a_model_and_what_links_lead_to_may_be_read(tmp_path: Path) -> None:
    blob = tmp_path / "blobs" / "b"
    blob.parent.mkdir()
    blob.touch()
    snapshot = tmp_path / "snapshot"
    snapshot.mkdir()
    (snapshot / "model.safetensors").symlink_to(blob)
    parts = [tmp_path / f"m-0000{at}-of-00002.gguf" for at in (1, 2)]
    for part in parts:
        part.touch()

    def found(weights: Path) -> set[Path]:
        files = ModelFiles(model=ModelId("m"), weights=weights)
        spec = ReplicaSpec(files=files, context_tokens=1, slots=1)
        return set(sandbox.readable(spec, (sys.executable,)))

    assert {snapshot, blob} <= found(snapshot)
    assert set(parts) <= found(parts[0])
    assert Path(sys.prefix).resolve() in {one.resolve() for one in found(snapshot)}


def test_neither_where_the_neuron_was_started_nor_its_home_comes_along(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A program of the operator's may lie anywhere, also beside the node's key."""
    started, home = tmp_path / "person", tmp_path / "person/helexa/neuron"
    program = started / "serve.sh"
    started.mkdir()
    program.touch()
    monkeypatch.chdir(started)
    monkeypatch.syspath_prepend(str(started))
    files = ModelFiles(model=ModelId("m"), weights=tmp_path / "m.gguf")
    spec = ReplicaSpec(files=files, context_tokens=1, slots=1)
    found = sandbox.readable(spec, (str(program),))
    asked = needs(home / "run/x", home=home / "engines", readable=found)
    visible = bound(wrapped(BOX, (str(program),), asked), "--ro-bind-try")
    assert str(program) in visible
    assert not [one for one in visible if home.is_relative_to(one)]


@pytest.mark.parametrize(
    ("kind", "words"),
    [
        ("bubblewrap", "bwrap is not installed; on Debian or Ubuntu: apt-get install bubblewrap"),
        ("systemd", "systemd-run is not installed"),
    ],
)
def test_a_missing_program_is_refused_with_words(kind: str, words: str) -> None:
    with pytest.raises(SandboxUnusable) as caught:
        sandbox.check(kind, find=lambda _: None)
    assert words in str(caught.value)


def test_a_machine_that_forbids_namespaces_is_refused_in_its_own_words(tmp_path: Path) -> None:
    said = "bwrap: No permissions to create new namespace"

    def forbids(*_: Any, **__: Any) -> Any:
        return subprocess.CompletedProcess((), 1, stdout="", stderr=f"{said}\n")

    with pytest.raises(SandboxUnusable, match=said):
        sandbox.check("bubblewrap", find=lambda _: "/usr/bin/bwrap", run=forbids)
    with pytest.raises(SandboxUnusable, match="not started by systemd"):
        sandbox.check("systemd", find=lambda _: "/x", booted=tmp_path / "nothing")
    sandbox.check("none", find=lambda _: None)


# --- the real engine inside


PROBE = """
import json, os, socket, sys
found = {"files": [], "processes": 0, "uid": os.getuid()}
for path in sys.argv[2:]:
    try:
        os.stat(path)
        found["files"].append(path)
    except OSError:
        pass
found["processes"] = len([name for name in os.listdir("/proc") if name.isdecimal()])
found["interfaces"] = sorted(name for _, name in socket.if_nameindex())
try:
    socket.create_connection(("127.0.0.1", int(sys.argv[1])), timeout=5).close()
    found["connects"] = True
except OSError:
    found["connects"] = False
for folder in ("/usr", os.path.dirname(sys.argv[2]), "/"):
    try:
        open(os.path.join(folder, "planted"), "w").close()
        found.setdefault("wrote", []).append(folder)
    except OSError:
        pass
print(json.dumps(found))
"""


async def test_the_real_engine_serves_from_inside_and_goes_with_its_neuron(
    bubblewrap: None, tmp_path: Path
) -> None:
    folder = tmp_path / "models"
    folder.mkdir()
    tiny_gguf.write(folder / "tiny.gguf", context_tokens=512)
    (folder / "other.gguf").write_text("secret")
    (tmp_path / "secret").write_text("canary")
    chosen = settings(tmp_path, folder, sandbox="bubblewrap")
    transports = {"memory": MemoryNetwork().open_transport}
    with anyio.fail_after(PATIENCE_S):
        async with running(chosen, open_transports=transports) as neuron, api(neuron) as client:
            body = {"model": "tiny", "prompt": "a", "max_tokens": 4, "temperature": 0}
            answered = await ask(client, "POST", "/v1/completions", json.dumps(body).encode())
            assert answered.status == 200
            assert answered.json["usage"]["completion_tokens"] == 4
            inside = [
                one
                for one in psutil.Process().children(recursive=True)
                if "helexa.runtime.children.llama_cpp" in " ".join(one.cmdline())
                and "bwrap" not in one.name()
            ]
            (engine,) = inside
            own = Path("/proc/self/ns")
            theirs = Path(f"/proc/{engine.pid}/ns")
            for kind in ("mnt", "net", "pid", "ipc"):
                assert (own / kind).readlink() != (theirs / kind).readlink(), kind
            status = Path(f"/proc/{engine.pid}/status").read_text()  # noqa: ASYNC240
            assert "NoNewPrivs:\t1" in status
            assert "CapEff:\t0000000000000000" in status
            root = Path(f"/proc/{engine.pid}/root")
            assert (root / str(folder / "tiny.gguf").lstrip("/")).exists()
            for hidden in (folder / "other.gguf", tmp_path / "secret", chosen.home / "node.key"):
                assert hidden.exists()
                assert not (root / str(hidden).lstrip("/")).exists(), hidden
    assert not engine.is_running() or engine.status() == psutil.STATUS_ZOMBIE


def test_from_inside_nothing_outside_can_be_seen_reached_or_written(
    bubblewrap: None, tmp_path: Path
) -> None:
    import socket

    scratch, secret = tmp_path / "run", tmp_path / "secret"
    scratch.mkdir()
    secret.write_text("canary")
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
        probe = (sys.executable, "-I", "-S", "-c", PROBE, str(port), str(secret), "/etc/shadow")
        files = ModelFiles(model=ModelId("m"), weights=tmp_path / "m.gguf")
        spec = ReplicaSpec(files=files, context_tokens=1, slots=1)
        readable = sandbox.readable(spec, probe)
        argv = wrapped(BOX, probe, needs(scratch, readable=readable))
        done = subprocess.run(argv, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
        found = json.loads(done.stdout)
        assert found["files"] == []
        assert found["interfaces"] == ["lo"]
        assert found["connects"] is False
        assert found["processes"] <= 3
        outside = set(found.get("wrote", ())) - {"/", str(tmp_path)}
        assert outside == set()  # What was written to / and on the way to scratch is memory.
        assert not Path("/planted").exists()
        assert not (tmp_path / "planted").exists()
        with_network = wrapped(BOX, probe, needs(scratch, readable=readable, network=True))
        reached = subprocess.run(with_network, capture_output=True, text=True, check=True)
        assert json.loads(reached.stdout)["connects"] is True
