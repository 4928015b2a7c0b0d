"""A node's own folder: one process at a time, private files, and where it can be reached now."""

from __future__ import annotations

import fcntl
import json
import os
import secrets
import stat
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

RUN_FILE: Final = "run.json"
TOKEN_BYTES: Final = 32


class HomeUnusable(Exception):
    """The folder is taken by another process or cannot be used. Says which and what to do."""


@contextmanager
def claimed(home: Path) -> Iterator[None]:
    """Hold the folder for this process, made private and where missing created.

    The lock is the kernel's and ends with the process, so a killed node leaves
    nothing that has to be cleaned. Raises HomeUnusable.
    """
    try:
        home.mkdir(parents=True, exist_ok=True, mode=0o700)
        lock = os.open(home / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise HomeUnusable(f"cannot use the folder {home}: {error.strerror}") from error
    try:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            holder = os.pread(lock, 32, 0).decode("ascii", "replace").strip()
            raise HomeUnusable(
                f"the folder {home} is used by a running node (pid {holder or 'unknown'}); "
                "stop it, or give this one another --home"
            ) from error
        os.ftruncate(lock, 0)
        os.pwrite(lock, f"{os.getpid()}\n".encode(), 0)
        yield
    finally:
        os.close(lock)


def secret_token(path: Path) -> str:
    """The token in the file, made at first use, readable by the owner alone.

    Raises HomeUnusable when others may read the file or it holds no token.
    """
    try:
        made = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    except FileExistsError:
        pass
    except OSError as error:
        raise HomeUnusable(f"cannot write {path}: {error.strerror}") from error
    else:
        with os.fdopen(made, "w") as file:
            file.write(f"hx_admin_{secrets.token_urlsafe(TOKEN_BYTES)}\n")
    try:
        mode = stat.S_IMODE(path.stat().st_mode)
        token = path.read_text(encoding="ascii").strip()
    except (OSError, UnicodeDecodeError) as error:
        raise HomeUnusable(f"cannot read {path}: {error}") from error
    if mode & 0o077:
        raise HomeUnusable(f"{path} is readable by others; run: chmod 600 {path}")
    if len(token) < TOKEN_BYTES:
        raise HomeUnusable(f"{path} holds no token; remove it and a new one is made")
    return token


@contextmanager
def announced(home: Path, facts: Mapping[str, Any]) -> Iterator[None]:
    """`run.json` with these facts while the block lasts, for commands on this machine."""
    path = home / RUN_FILE
    temporary = home / f"{RUN_FILE}.new"
    temporary.write_text(json.dumps({**facts, "pid": os.getpid()}, indent=1), encoding="utf-8")
    temporary.replace(path)
    try:
        yield
    finally:
        path.unlink(missing_ok=True)
