"""What pulls add to what is said of models: their source, how far they are, why they failed."""

from __future__ import annotations

import math
from collections.abc import Callable

from msgspec.structs import replace

from helexa.neuron.models.supply.pulls import Pulls
from helexa.neuron.models.supply.records import Record, Stage
from helexa.protocol.errors import HelexaError, ModelLoading, NoCapacity
from helexa.protocol.ids import ModelId
from helexa.protocol.work import ModelCapability, ModelState
from helexa.util.units import format_bytes


class SupplyStanding:
    """`disk_bytes` says what the files of a model take that no pull brought."""

    def __init__(self, pulls: Pulls, disk_bytes: Callable[[ModelId], int]) -> None:
        self._pulls = pulls
        self._disk_bytes = disk_bytes

    def completed(self, said: tuple[ModelCapability, ...]) -> tuple[ModelCapability, ...]:
        """Of the models on disk, with those that are not there yet."""
        by_model = {one.model: one for one in said}
        for record in self._pulls.records():
            have_bytes = self._pulls.have_bytes(record.model)
            if have_bytes is not None:
                by_model[record.model] = _coming(record, have_bytes)
            elif record.model in by_model:
                by_model[record.model] = _here(by_model[record.model], record)
            elif record.stage is Stage.FAILED:
                by_model[record.model] = _failed(record)
        return tuple(
            one if one.disk_bytes else replace(one, disk_bytes=self._disk_bytes(one.model))
            for _, one in sorted(by_model.items())
        )

    def absence(self, model: str) -> HelexaError | None:
        """Why a model is not here that somebody asks for; None where nothing is known of it."""
        named = ModelId(model)
        record = self._pulls.record(named)
        if record is None:
            return None
        if (told := self._pulls.progress_of(named)) is not None:
            progress = told.progress
            return ModelLoading(
                reason=f"{model!r} is being downloaded: {format_bytes(progress.bytes_done)} of "
                f"{format_bytes(progress.bytes_total)}.",
                wait_s=max(1, min(math.ceil(progress.eta_s or 5), 3_600)),
                progress=progress,
            )
        if record.stage is Stage.FAILED:
            # Why names hosts and folders, and is in what the neuron announces to its cortexes.
            return NoCapacity(reason=f"{model!r} could not be downloaded.", wait_s=60)
        return None


def _coming(record: Record, have_bytes: int) -> ModelCapability:
    return ModelCapability(
        model=record.model,
        state=ModelState.DOWNLOADING,
        quantisation=record.source.quantisation,
        source=record.shown_source,
        disk_bytes=have_bytes,
        pinned=record.pin,
    )


def _failed(record: Record) -> ModelCapability:
    return ModelCapability(
        model=record.model,
        state=ModelState.FAILED,
        source=record.shown_source,
        pinned=record.pin,
        reason=record.reason,
    )


def _here(said: ModelCapability, record: Record) -> ModelCapability:
    return replace(
        said, source=record.shown_source, disk_bytes=record.total_bytes, pinned=record.pin
    )
