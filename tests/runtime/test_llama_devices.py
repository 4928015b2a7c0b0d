"""What of a model lies on devices, and whether this build of the engine can use any."""

from __future__ import annotations

from pathlib import Path

import pytest

from helexa.protocol.ids import ModelId
from helexa.runtime.adapters.llama_cpp import LlamaCpp
from helexa.runtime.contract import ArgumentValue, Installation, ModelFiles, ReplicaSpec
from helexa.runtime.llama_cpp import build, memory

GIB = 1 << 30


def spec(installation: Installation | None = None, **arguments: ArgumentValue) -> ReplicaSpec:
    files = ModelFiles(
        model=ModelId("m"),
        weights=Path("/m.gguf"),
        weights_bytes=4 * GIB,
        layers=31,
        kv_bytes_per_token=1 << 16,
        multiplied=((12, 3 * GIB),),
    )
    return ReplicaSpec(
        files=files,
        context_tokens=4096,
        slots=2,
        arguments=arguments,
        installation=installation or Installation(),
    )


def test_all_that_computes_lies_on_devices_and_the_rest_beside_them() -> None:
    need = memory.footprint(spec())
    assert need.on_devices >= 4 * GIB + need.kv_cache
    assert need.cpu_only == 3 * GIB  # No device has use for another order of the weights.
    beside = need.total - need.on_devices - need.cpu_only
    assert memory.PROCESS_BYTES <= beside - need.reserve < 64 << 20


@pytest.mark.parametrize(("layers", "share"), [(0, 0.0), (16, 0.5), (32, 1.0), (99, 1.0)])
def test_layers_on_devices_are_a_share_of_weights_and_context(layers: int, share: float) -> None:
    need = memory.footprint(spec(n_gpu_layers=layers))
    least = round((4 * GIB + need.kv_cache) * share)
    assert least <= need.on_devices <= least + (GIB if share else 0)


def test_the_build_from_the_index_asks_for_no_device(tmp_path: Path) -> None:
    assert LlamaCpp().devices(spec()) is None


def test_an_engine_that_the_operator_put_there_is_lent_devices() -> None:
    elsewhere = Installation(program=Path("/opt/llama.cpp/llama-server"))
    wish = LlamaCpp().devices(spec(elsewhere))
    assert wish is not None
    assert "nvidia" in wish.vendors
    assert LlamaCpp().devices(spec(elsewhere, n_gpu_layers=0)) is None


def test_a_library_tells_by_its_parts_what_it_was_built_for(tmp_path: Path) -> None:
    files = []
    for name, content in (
        ("a.so", b"\x7fELF...ggml_backend_cpu_reg\0"),
        ("b.so", b"\x7fELF...ggml_backend_cuda_reg\0..."),
        ("empty.so", b""),
    ):
        files.append(tmp_path / name)
        files[-1].write_bytes(content)
    assert build.marked([*files, tmp_path / "missing.so"]) == ("nvidia",)
    assert build.marked(files[:1]) == ()
