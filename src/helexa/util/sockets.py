"""Socket addresses as operators write them, and sockets bound to them."""

from __future__ import annotations

import socket
from dataclasses import dataclass
from pathlib import Path
from typing import Final


@dataclass(frozen=True, slots=True)
class Address:
    """`HOST:PORT`, `[IPV6]:PORT` or `unix:PATH`. Port 0 lets the system choose."""

    host: str
    port: int
    path: str = ""

    @classmethod
    def parse(cls, text: str) -> Address:
        """Raises ValueError naming the accepted forms."""
        if text.startswith("unix:"):
            path = text.removeprefix("unix:")
            if not path:
                raise ValueError(f"{text!r} names no file; write unix:/path/to.sock")
            return cls("", 0, path)
        host, separator, port = text.rpartition(":")
        host = host.removeprefix("[").removesuffix("]")
        if not separator or not port.isascii() or not port.isdigit() or int(port) > 65535:
            raise ValueError(
                f"{text!r} is not a socket; write HOST:PORT with a port from 0 to 65535, "
                "for example 127.0.0.1:8080"
            )
        if not host:
            raise ValueError(f"{text!r} names no host; write for example 127.0.0.1:{port}")
        return cls(host, int(port))

    def __str__(self) -> str:
        if self.path:
            return f"unix:{self.path}"
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"

    @property
    def is_loopback(self) -> bool:
        return bool(self.path) or self.host in ("localhost", "::1") or self.host.startswith("127.")

    def reachable_host(self) -> str:
        """A host that a client on this machine can use: a wildcard becomes loopback."""
        if self.host in ("0.0.0.0", ""):
            return "127.0.0.1"
        return "[::1]" if self.host == "::" else self.host

    def with_port(self, port: int) -> Address:
        return Address(self.host, port, self.path)


UNIX_PATH_BYTES_MAX: Final = 107
"""What fits into a Unix socket's address on Linux, the final zero aside."""


class AddressTaken(Exception):
    """Somebody else listens there, or the address is not this machine's."""


def listen_tcp(address: Address, *, backlog: int = 2048, v6_only: bool = False) -> socket.socket:
    """A listening TCP socket, closed by the caller.

    With `v6_only` the wildcard of IPv6 leaves IPv4 to others.
    Raises AddressTaken with the operating system's reason.
    """
    family = socket.AF_INET6 if ":" in address.host else socket.AF_INET
    listener = socket.socket(family, socket.SOCK_STREAM)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if v6_only and family == socket.AF_INET6:
            listener.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        listener.bind((address.host, address.port))
        listener.listen(backlog)
        listener.setblocking(False)
    except OSError as error:
        listener.close()
        raise AddressTaken(f"cannot listen on {address}: {error.strerror or error}") from error
    return listener


def listen_unix(path: Path, *, backlog: int = 2048) -> socket.socket:
    """A listening Unix socket that only this user may open; the caller removes the file.

    A file that is there already is replaced: call this only where the folder is the caller's own.
    Raises AddressTaken with the operating system's reason.
    """
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        path.unlink(missing_ok=True)
        listener.bind(str(path))
        path.chmod(0o600)
        listener.listen(backlog)
        listener.setblocking(False)
    except OSError as error:
        listener.close()
        raise AddressTaken(f"cannot listen on unix:{path}: {error.strerror or error}") from error
    return listener
