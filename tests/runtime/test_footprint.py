"""What engines need that load safetensors as they are, in arithmetic."""

from __future__ import annotations

from dataclasses import replace
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from helexa.protocol.ids import ModelId
from helexa.runtime.contract import ModelFiles, ReplicaSpec
from helexa.runtime.footprint import pictures_bytes, safetensors

MIB = 1 << 20


def spec(*, context_tokens: int = 1_000, slots: int = 2, **more: Any) -> ReplicaSpec:
    files = ModelFiles(model=ModelId("m"), weights=Path("/srv/m"), format="safetensors", **more)
    return ReplicaSpec(files=files, context_tokens=context_tokens, slots=slots)


def test_weights_are_as_large_as_their_files_and_every_slot_has_its_context() -> None:
    need = safetensors(spec(weights_bytes=7 * MIB, kv_bytes_per_token=100), process_bytes=MIB)
    assert (need.weights, need.kv_cache) == (7 * MIB, 2 * 1_000 * 100)
    assert need.total == need.use


def test_layers_with_a_window_keep_only_it() -> None:
    windowed = spec(window_tokens=64, window_kv_bytes_per_token=10, kv_bytes_per_token=1)
    assert safetensors(windowed, process_bytes=0).kv_cache == 2 * (1_000 + 640)
    short = spec(
        window_tokens=64, window_kv_bytes_per_token=10, kv_bytes_per_token=1, context_tokens=8
    )
    assert safetensors(short, process_bytes=0).kv_cache == 2 * (8 + 80)


@given(st.integers(1, 1 << 20), st.integers(1, 64), st.integers(0, 1 << 16))
def test_more_context_slots_or_width_never_need_less(context: int, slots: int, row: int) -> None:
    def need(context_tokens: int, slots: int, row: int) -> int:
        asked = spec(
            context_tokens=context_tokens, slots=slots, kv_bytes_per_token=7, embedding_length=row
        )
        return safetensors(asked, process_bytes=MIB).total

    least = need(context, slots, row)
    assert need(context + 1, slots, row) >= least
    assert need(context, slots + 1, row) >= least
    assert need(context, slots, row + 1) >= least


def test_pictures_of_all_slots_are_held_and_one_in_each_is_decoded() -> None:
    seeing = replace(spec(slots=3), request_pixels_max=10, picture_pixels_max=4)
    assert pictures_bytes(seeing, pixel_bytes=3, decoding_bytes=13) == 3 * (10 * 3 + 4 * 13)


@pytest.mark.parametrize("runtime", ["transformers", "vllm"])
def test_only_models_that_see_have_room_for_pictures_beside_their_devices(runtime: str) -> None:
    adapter = import_module(f"helexa.runtime.adapters.{runtime}").adapter
    blind, seeing = (
        adapter.footprint(replace(spec(sees=sees), request_pixels_max=MIB, picture_pixels_max=MIB))
        for sees in (False, True)
    )
    assert seeing.reserve - blind.reserve == 2 * (4 + 12) * MIB
    assert seeing.on_devices == blind.on_devices
