"""The patterns of the federation's rules and of requests' wishes."""

from __future__ import annotations

from helexa.util.patterns import Patterns

__all__ = ["Patterns", "in_region"]


def in_region(region: str) -> str:
    return f"in region {region}" if region else "in no region that it names"
