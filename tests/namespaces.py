"""Networks of hosts, on this machine: network namespaces joined by cables and switches.

    with network() as net:
        a, b = net.host("a"), net.host("b")
        net.cable((a, "10.9.0.1/24"), (b, "10.9.0.2/24"))
        child = a.start([sys.executable, "-c", "..."])

Whatever was made inside the block is gone after it: processes by their ids,
then the namespaces, and with them every interface. It needs root and `ip`, and
`nft` where packets are changed or dropped. Where those are missing a test fails
and says so, unless `HELEXA_TEST_NAMESPACES` is `off`: then it is left out, and
the summary names it.
"""

from __future__ import annotations

import ctypes
import itertools
import os
import secrets
import shutil
import subprocess
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO, Any

import pytest

SWITCH = "OFF"
REMEDY = (
    "Run the tests as root with iproute2 and nftables installed, or leave these out with "
    "HELEXA_TEST_NAMESPACES=off"
)
CLONE_NEWNET = 0x40000000
COMMAND_S = 20
GRACE_S = 5


class Host:
    """One namespace: a machine with loopback and what is plugged into it."""

    def __init__(self, name: str, namespace: str) -> None:
        self.name = name
        self.namespace = namespace
        self.processes: list[subprocess.Popen[Any]] = []

    def within(self, argv: Sequence[str]) -> list[str]:
        return ["ip", "netns", "exec", self.namespace, *argv]

    def run(self, *argv: str) -> str:
        """What it printed. Fails with what it complained about."""
        return _run(*self.within(argv))

    def start(self, argv: Sequence[str], **options: Any) -> subprocess.Popen[Any]:
        """A process that ends with the network at the latest."""
        process = subprocess.Popen(self.within(argv), **options)
        self.processes.append(process)
        return process

    @contextmanager
    def entered(self) -> Iterator[None]:
        """Inside the block this thread, and no other, makes its sockets on that host."""
        with (
            Path("/proc/thread-self/ns/net").open("rb") as outside,
            Path("/run/netns", self.namespace).open("rb") as inside,
        ):
            _move_to(inside)
            try:
                yield
            finally:
                _move_to(outside)

    def address(self, interface: str, *addresses: str) -> None:
        """Give the interface `IP/BITS` and put it up; IPv6 is usable at once."""
        for each in addresses:
            nodad = ["nodad"] if ":" in each else []
            self.run("ip", "addr", "add", each, "dev", interface, *nodad)
        self.run("ip", "link", "set", interface, "up")

    def end(self) -> None:
        for process in self.processes:
            process.terminate()
        for process in self.processes:
            try:
                process.wait(GRACE_S)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
            for stream in (process.stdin, process.stdout, process.stderr):
                if stream is not None:
                    stream.close()


class Network:
    """Made by `network`."""

    def __init__(self) -> None:
        # A suite may run beside another on one machine.
        self._prefix = f"hx{secrets.token_hex(3)}"
        self._hosts: list[Host] = []
        self._numbers = itertools.count()

    def host(self, name: str) -> Host:
        host = Host(name, f"{self._prefix}-{name}")
        _run("ip", "netns", "add", host.namespace)
        self._hosts.append(host)
        host.run("ip", "link", "set", "lo", "up")
        return host

    def router(self, name: str) -> Host:
        """A host that passes packets on."""
        host = self.host(name)
        with host.entered():
            Path("/proc/sys/net/ipv4/ip_forward").write_text("1")
        return host

    def cable(self, one: tuple[Host, str], other: tuple[Host, str]) -> tuple[str, str]:
        """A veth pair between two hosts, each with its address; the names of its ends."""
        number = next(self._numbers)
        ends = (f"eth{number}a", f"eth{number}b")
        _run(
            *("ip", "link", "add", ends[0], "netns", one[0].namespace, "type", "veth"),
            *("peer", "name", ends[1], "netns", other[0].namespace),
        )
        for (host, address), end in zip((one, other), ends, strict=True):
            host.address(end, *filter(None, [address]))
        return ends

    def switch(self, name: str, *plugged: tuple[Host, str]) -> Host:
        """A LAN: every host on one bridge, each with its address."""
        switch = self.host(name)
        switch.run("ip", "link", "add", "lan", "type", "bridge")
        switch.run("ip", "link", "set", "lan", "up")
        for host, address in plugged:
            _, port = self.cable((host, address), (switch, ""))
            switch.run("ip", "link", "set", port, "master", "lan")
        return switch

    def end(self) -> None:
        for host in self._hosts:
            host.end()
        for host in reversed(self._hosts):
            # What is still in there, such as a process of a process, goes with it.
            with suppress(RuntimeError):
                for pid in _run("ip", "netns", "pids", host.namespace).split():
                    with suppress(ProcessLookupError):
                        os.kill(int(pid), 9)
            with suppress(RuntimeError):
                _run("ip", "netns", "del", host.namespace)


@contextmanager
def network(*tools: str) -> Iterator[Network]:
    """`tools` are commands that the test runs on its hosts."""
    if os.environ.get("HELEXA_TEST_NAMESPACES", "").upper() == SWITCH:
        pytest.skip("network namespaces are turned off by HELEXA_TEST_NAMESPACES=off")
    net = Network()
    try:
        _require(tools)
        yield net
    finally:
        net.end()


def _require(tools: Sequence[str]) -> None:
    """One namespace, made and removed: whether that works is what counts."""
    if missing := [tool for tool in tools if shutil.which(tool) is None]:
        pytest.fail(f"network namespaces are tested with {', '.join(missing)}. {REMEDY}")
    name = f"hx{secrets.token_hex(4)}"
    try:
        _run("ip", "netns", "add", name)
        _run("ip", "netns", "exec", name, "true")
    except (OSError, RuntimeError) as error:
        pytest.fail(f"network namespaces cannot be made here: {error}. {REMEDY}")
    finally:
        with suppress(OSError, RuntimeError):
            _run("ip", "netns", "del", name)


def _move_to(namespace: IO[bytes]) -> None:
    # Python's own `os.setns` came with 3.12.
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.setns(namespace.fileno(), CLONE_NEWNET) != 0:
        raise OSError(ctypes.get_errno(), f"cannot enter {namespace.name}")


def _run(*argv: str) -> str:
    done = subprocess.run(argv, capture_output=True, text=True, timeout=COMMAND_S, check=False)
    if done.returncode != 0:
        raise RuntimeError(f"{' '.join(argv)}: {done.stderr.strip() or done.returncode}")
    return done.stdout
