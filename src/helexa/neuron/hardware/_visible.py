"""Devices that the neuron itself was told not to use, by the makers' own variables.

A management library shows all of a machine; a program that computes obeys
`CUDA_VISIBLE_DEVICES` and its kin. The neuron does as they do, so that an operator
can give each of two neurons its own devices.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from helexa.protocol.work import Device


def variable(root: Path, name: str) -> str | None:
    """As this process was started with."""
    try:
        content = (root / "proc/self/environ").read_bytes()
    except OSError:
        return None
    for pair in content.split(b"\0"):
        key, found, value = pair.partition(b"=")
        if found and key == name.encode():
            return value.decode(errors="replace")
    return None


def visible(devices: Sequence[Device], text: str | None) -> tuple[Device, ...]:
    """By CUDA's rules: numbers or beginnings of UUIDs; the first that is nothing ends the list."""
    if text is None:
        return tuple(devices)
    found: list[Device] = []
    for word in text.split(","):
        name = word.strip()
        hits = [
            one
            for one in devices
            if (name.isdecimal() and one.index == int(name))
            or (len(name) > 3 and one.uuid.startswith(name))
        ]
        # Of a divided device a number shows the first part alone.
        if not hits or hits[0] in found:
            break
        found.append(hits[0])
    return tuple(found)
