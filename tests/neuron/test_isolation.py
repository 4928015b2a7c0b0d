"""What a child is kept from, and that nothing of it stays, not even of what it forked."""

from __future__ import annotations

import json
import os
import select
import subprocess
import sys
import textwrap
from pathlib import Path
from typing import Any

import anyio
import pytest

from helexa.neuron.supervisor.process import Terms, child
from helexa.util import kept, leash
from helexa.util.keeper import keeping

pytestmark = pytest.mark.anyio

PYTHON = (sys.executable, "-I", "-S", "-c")
CANARY = "canary-4b1d"
LOOK = """
import json, os, resource
status = dict(
    line.split(":", 1) for line in open("/proc/self/status").read().splitlines() if ":" in line
)
descriptors = []
for name in os.listdir("/proc/self/fd"):
    try:
        descriptors.append((int(name), os.readlink(f"/proc/self/fd/{name}")))
    except OSError:
        pass  # The one that listed the folder.
print(json.dumps({
    "core": resource.getrlimit(resource.RLIMIT_CORE),
    "files": resource.getrlimit(resource.RLIMIT_NOFILE)[0],
    "file_bytes": resource.getrlimit(resource.RLIMIT_FSIZE)[0],
    "oom": int(open("/proc/self/oom_score_adj").read()),
    "no_new_privs": int(status["NoNewPrivs"]),
    "umask": status["Umask"].strip(),
    "nice": os.nice(0),
    "cpus": sorted(os.sched_getaffinity(0)),
    "descriptors": descriptors,
    "environ": open("/proc/self/environ").read(),
    "home": os.environ["HOME"],
}))
"""


async def seen(folder: Path, **more: Any) -> dict[str, Any]:
    with anyio.fail_after(30):
        async with child((*PYTHON, LOOK), {}, folder=str(folder), grace_s=5, **more) as started:
            assert await started.exited() == 0, started.tail
            return json.loads(started.tail)


async def test_a_child_lives_under_the_kernels_terms(tmp_path: Path) -> None:
    terms = Terms(nice=3, file_bytes_max=1 << 20)
    last = max(os.sched_getaffinity(0))
    found = await seen(tmp_path, terms=terms, cpus=(last,))
    own = int(Path("/proc/self/oom_score_adj").read_text())  # noqa: ASYNC240
    assert found["core"] == [0, 0]
    assert 1024 <= found["files"] <= 65_536
    assert found["file_bytes"] == 1 << 20
    assert found["oom"] == min(1000, own + 500)
    assert found["no_new_privs"] == 1
    assert found["umask"] == "0077"
    assert found["nice"] == os.nice(0) + 3
    assert found["cpus"] == [last]


async def test_a_child_inherits_no_descriptor_but_its_three(tmp_path: Path) -> None:
    """Also none that was made to be inherited, as another library may do it."""
    with (tmp_path / "secret").open("w") as leaky:
        os.set_inheritable(leaky.fileno(), True)
        found = await seen(tmp_path)
    assert sorted(number for number, _ in found["descriptors"]) == [0, 1, 2]
    assert "secret" not in json.dumps(found["descriptors"])


async def test_secrets_of_the_neuron_are_not_in_its_childs_environment_or_home(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    home, engines = tmp_path / "operator", tmp_path / "engines"
    (home / ".cache/huggingface").mkdir(parents=True)
    (home / ".cache/huggingface/token").write_text(CANARY)
    engines.mkdir()
    monkeypatch.setenv("HOME", str(home))
    monkeypatch.setenv("HF_TOKEN", CANARY)
    monkeypatch.setenv("XDG_CACHE_HOME", str(home / ".cache"))
    found = await seen(tmp_path, terms=Terms(home=engines))
    assert CANARY not in found["environ"]
    assert str(home) not in found["environ"]
    assert found["home"] == str(engines)


async def test_terms_that_the_kernel_does_not_grant_are_an_exit_with_words(tmp_path: Path) -> None:
    with anyio.fail_after(30):
        async with child(
            (*PYTHON, "print('it lives')"), {}, folder=str(tmp_path), grace_s=5, cpus=(16_000,)
        ) as started:
            assert await started.exited() == leash.UNTERMED
            assert "does not grant cpus=16000" in started.tail
            assert "it lives" not in started.tail


WORKER = """
import os, sys
read, write = os.pipe()
if os.fork() == 0:
    os.setsid()
    if os.fork():
        os._exit(0)
    os.write(write, str(os.getpid()).encode())
    # As a library does it that shows a title: what it was started with is overwritten.
    {}
    import signal
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    while True:
        signal.pause()
print(os.read(read, 16).decode(), flush=True)
os.read(read, 1)
"""


async def test_a_worker_that_made_a_session_of_its_own_ends_with_its_child(tmp_path: Path) -> None:
    with anyio.fail_after(30):
        argv = (*PYTHON, WORKER.format("pass"))
        async with child(argv, {}, folder=str(tmp_path), grace_s=0.1) as started:
            while not started.tail.strip():  # noqa: ASYNC110
                await anyio.sleep(0.01)
            worker = int(started.tail)
            assert kept.belonging((), "no such mark") == []
    assert not is_there(worker)


NEURON = """
import sys, anyio
from helexa.neuron.supervisor.process import Terms, child
from helexa.util.keeper import keeping

async def main():
    with keeping() as kept:
        argv = (sys.executable, "-I", "-S", "-c", sys.argv[1])
        async with child(argv, {}, folder="/tmp", grace_s=5, terms=Terms(keeper=kept)) as started:
            while not started.tail.strip():
                await anyio.sleep(0.01)
            print(started.pid, started.tail, flush=True)
            await anyio.sleep_forever()

anyio.run(main)
"""
SAME_SESSION = """
import os, signal
worker = os.fork()
if worker == 0:
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    # Nothing is left of the environment that it was started with.
    import ctypes
    libc = ctypes.CDLL(None)
    environ = ctypes.POINTER(ctypes.c_char_p).in_dll(libc, "environ")
    at = 0
    addresses = ctypes.cast(environ, ctypes.POINTER(ctypes.c_void_p))
    while addresses[at]:
        text = ctypes.string_at(addresses[at])
        ctypes.memset(addresses[at], 0, len(text))
        at += 1
    while True:
        signal.pause()
print(worker, flush=True)
while True:
    signal.pause()
"""


@pytest.mark.parametrize("body", [WORKER.format("pass"), SAME_SESSION], ids=["own", "same"])
def test_a_killed_neuron_leaves_no_worker_of_its_children(body: str) -> None:
    """The kernel ends the first process alone; the keeper finds the others."""
    neuron = subprocess.Popen(
        (sys.executable, "-c", textwrap.dedent(NEURON), body), stdout=subprocess.PIPE
    )
    assert neuron.stdout is not None
    with neuron.stdout:
        first, worker = map(int, neuron.stdout.readline().split())
        assert is_there(first)
        assert is_there(worker)
        neuron.kill()
        neuron.wait()
    for pid in (first, worker):
        await_end_of(pid)


def test_the_keeper_leaves_with_its_node_and_touches_nobody_else() -> None:
    with subprocess.Popen(("sleep", "600"), start_new_session=True) as other:
        with keeping() as kept:
            kept.keep(other.pid)
            kept.release(other.pid)
        assert other.poll() is None
        other.kill()


def test_who_is_older_than_a_child_belongs_to_no_child() -> None:
    with subprocess.Popen(("sleep", "600"), start_new_session=True) as older:
        since = kept.started(older.pid)
        assert kept.belonging({older.pid}, "no such mark", since=since) == [older.pid]
        assert kept.belonging({older.pid}, "no such mark", since=since + 1) == []
        older.kill()
    assert kept.started(older.pid) == 0


def is_there(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in "ZX"
    except OSError:
        return False


def await_end_of(pid: int) -> None:
    """It is not our child, so the kernel's handle is waited on."""
    try:
        handle = os.pidfd_open(pid)
    except ProcessLookupError:
        return
    try:
        ended, _, _ = select.select([handle], [], [], 30)
        assert ended, f"process {pid} outlived the neuron"
    finally:
        os.close(handle)
