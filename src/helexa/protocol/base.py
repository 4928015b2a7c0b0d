"""What every message of the wire has in common."""

from __future__ import annotations

import msgspec


class Message(msgspec.Struct, frozen=True, kw_only=True, tag_field="t"):
    """Frozen, keyword-only, tagged. Subclasses name their own tag."""
