"""Which machine this is, as a mark that two processes can compare.

A Unix socket is a path only to processes of the same host. The boot id is the
same for all of them, in every container and network namespace, and differs
between machines and after a reboot. It is hashed, because it need not be known
to strangers. Equal marks are a hint and no proof: containers of one host have
equal marks and different file systems.
"""

from __future__ import annotations

import hashlib
import platform
import uuid
from functools import lru_cache
from pathlib import Path
from typing import Final

_BOOT_ID: Final = Path("/proc/sys/kernel/random/boot_id")


@lru_cache(maxsize=1)
def host_mark() -> str:
    """32 hexadecimal digits, the same for every process of this boot of this machine."""
    try:
        source = _BOOT_ID.read_text(encoding="ascii").strip()
    except OSError:
        # Where there is no /proc: the interface's address and the name, the best that is left.
        source = f"{uuid.getnode()} {platform.node()}"
    return hashlib.sha256(f"helexa-host-1 {source}".encode()).hexdigest()[:32]
