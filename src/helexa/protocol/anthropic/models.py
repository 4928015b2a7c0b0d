"""The answer of `GET /v1/models` as Anthropic's clients read it, a page at a time."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Final, Literal

import msgspec

from helexa.protocol.errors import RequestRejected
from helexa.protocol.openai.models import ModelObject

PAGE: Final = 20
PAGE_MAX: Final = 1000


class ModelInfo(msgspec.Struct, frozen=True, kw_only=True, tag_field="type", tag="model"):
    id: str
    display_name: str
    created_at: str
    """By RFC 3339: since when this cortex lists models; nobody knows when one was made."""
    lifecycle: Literal["active"] = "active"
    max_input_tokens: int | None = None
    max_tokens: int | None = None


class ModelPage(msgspec.Struct, frozen=True, kw_only=True):
    data: list[ModelInfo]
    has_more: bool
    first_id: str | None
    last_id: str | None


def info(model: ModelObject) -> ModelInfo:
    created = datetime.fromtimestamp(model.created, UTC).isoformat().replace("+00:00", "Z")
    return ModelInfo(
        id=model.id,
        display_name=model.id,
        created_at=created,
        # What is read and what is written share one context.
        max_input_tokens=model.context_length,
        max_tokens=model.context_length,
    )


def page(
    models: Sequence[ModelObject], *, limit: str | None, after: str | None, before: str | None
) -> ModelPage:
    """The arguments are those of the query. Raises RequestRejected."""
    most = PAGE
    if limit is not None:
        most = int(limit) if limit.isascii() and limit.isdigit() and len(limit) < 6 else 0
        if not 1 <= most <= PAGE_MAX:
            raise RequestRejected(f"`limit` is a number from 1 to {PAGE_MAX}.", "limit")
    ids = [one.id for one in models]
    first, end = 0, len(ids)
    if after is not None:
        first = _found(ids, after, "after_id") + 1
    if before is not None:
        end = _found(ids, before, "before_id")
    if before is not None and after is None:
        shown = range(max(first, end - most), end)
        has_more = shown.start > first
    else:
        shown = range(first, min(end, first + most))
        has_more = shown.stop < end
    data = [info(models[at]) for at in shown]
    return ModelPage(
        data=data,
        has_more=has_more,
        first_id=data[0].id if data else None,
        last_id=data[-1].id if data else None,
    )


def _found(ids: Sequence[str], wanted: str, field: str) -> int:
    try:
        return ids.index(wanted)
    except ValueError:
        raise RequestRejected(f"`{field}` is no model that is listed here.", field) from None
