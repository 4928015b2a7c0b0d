"""What models were estimated to take, beside what they took: real children, measured.

    python -m benchmarks.footprints [--only NAME ...] [--out docs/benchmarks/footprints.json]

Measured is the memory of the child's process group: right after it became ready,
and again when every slot has read a prompt as long as nine tenths of its context,
because the memory of a batch is touched by the first long prompt only. The
estimate is `Footprint.use`, without the reserve that prompts of idle slots may
take later: here each slot gets one prompt, so nothing of it is used.
"""

from __future__ import annotations

import argparse
import json
import shutil
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import anyio

from benchmarks import machine, random_models
from benchmarks.random_models import Shape
from benchmarks.supervisor import roster
from helexa.neuron.models.store import DEMO_FOLDER
from helexa.neuron.settings import ModelSettings
from helexa.neuron.supervisor.engine import Engine
from helexa.neuron.supervisor.roster import Roster
from helexa.neuron.supervisor.weighing import group_bytes
from helexa.runtime.contract import ReplicaSpec
from helexa.testing import tiny_gguf

WITHIN = 0.10
FILLED = 0.9
MIB = 1 << 20


@dataclass(frozen=True)
class Case:
    name: str
    shape: Shape | None = None
    settings: ModelSettings = field(
        default_factory=lambda: ModelSettings(context_tokens=1_024, slots=4)
    )


@dataclass
class Weighed:
    name: str
    spec: str
    estimated: int
    loaded: int
    filled: int
    parts: dict[str, int]

    @property
    def error(self) -> float:
        return (self.estimated - self.filled) / self.filled


def serve(context_tokens: int, slots: int, *arguments: str, **more: Any) -> ModelSettings:
    return ModelSettings(context_tokens=context_tokens, slots=slots, arguments=arguments, **more)


def _cases() -> list[Case]:
    small = Shape(width=512, layers=4, vocabulary=1_024)
    words = Shape(width=512, layers=8, vocabulary=32_000)
    wide = Shape(width=1_024, layers=6, heads=16, heads_kv=4, vocabulary=32_000)
    large = Shape(width=2_048, layers=8, heads=16, heads_kv=4, feed_forward=6_144,
                  vocabulary=64_000)  # fmt: skip

    def of(shape: Shape, **more: Any) -> Shape:
        return Shape(**{**shape.__dict__, **more})

    return [
        Case("helexa-demo"),
        Case("helexa-demo-vision"),
        Case("tiny"),
        Case("f16", small),
        Case("f32", of(words, format="f32")),
        Case("bf16", of(words, format="bf16")),
        Case("q8_0", of(words, format="q8_0")),
        Case("q4_0", of(words, format="q4_0")),
        Case("q4_0-tied", of(words, format="q4_0", tied=True)),
        Case("q4_k", of(wide, format="q4_k")),
        Case("q6_k", of(wide, format="q6_k")),
        Case("vocabulary-128k", of(words, vocabulary=128_000, layers=4)),
        Case("grouped-heads", wide),
        Case("wide-hidden", of(small, feed_forward=8_192)),
        Case("deep", of(small, layers=24)),
        Case("large", of(large, format="q8_0"), serve(512, 4)),
        Case("large-f16", large, serve(1_024, 1)),
        Case("one-slot", small, serve(4_096, 1)),
        Case("many-slots", small, serve(1_024, 16)),
        Case("odd-context", small, serve(700, 3)),
        Case("long-context", small, serve(16_384, 1)),
        Case("deterministic", small, serve(2_048, 4, deterministic=True)),
        Case("deterministic-long", of(small, heads=16), serve(4_096, 1, deterministic=True)),
        Case("kv-q8_0", small, serve(8_192, 2, "cache_type_k=q8_0", "cache_type_v=q8_0")),
        Case("ubatch-128", of(small, feed_forward=8_192), serve(2_048, 2, "n_ubatch=128")),
        Case("ubatch-2048", small, serve(4_096, 1, "n_ubatch=2048")),
        Case("not-mapped", of(words, format="q4_0"), serve(2_048, 2, "use_mmap=false")),
        Case("embedding", of(words, pooling=1), serve(2_048, 2)),
    ]


async def measure(cases: Sequence[Case], folder: Path) -> list[Weighed]:
    weighed = []
    for case in cases:
        _write(case, folder)
        async with roster(folder, {case.name: case.settings}) as live:
            one = await _weighed(live, case.name)
        weighed.append(one)
        print(
            f"{one.name:20} {one.spec:12} estimated {one.estimated / MIB:7.1f}  "
            f"loaded {one.loaded / MIB:7.1f}  filled {one.filled / MIB:7.1f}  {one.error:+6.1%}",
            file=sys.stderr,
        )
        _remove(folder)
    return weighed


def _remove(folder: Path) -> None:
    for path in folder.glob("*.gguf"):
        path.unlink()


def _write(case: Case, folder: Path) -> None:
    if case.shape is not None:
        random_models.write(folder / f"{case.name}.gguf", case.shape)
    elif case.name == "tiny":
        tiny_gguf.write(folder / "tiny.gguf")
    else:
        for path in DEMO_FOLDER.glob(f"{case.name}*.gguf"):
            if path.name.split(".")[0] == case.name:
                shutil.copy(path, folder)


async def _weighed(live: Roster, name: str) -> Weighed:
    await live.load(name)
    replica = await live.replica(name)
    engine = await live.engine(replica)
    spec = engine.spec
    loaded = group_bytes(engine.process.pid)
    async with anyio.create_task_group() as tasks:
        for slot in range(spec.slots):
            tasks.start_soon(_fill, engine, spec, slot)
    filled = group_bytes(engine.process.pid)
    need = replica.adapter.footprint(spec)
    return Weighed(
        name=name,
        spec=f"{spec.context_tokens}x{spec.slots}",
        estimated=need.use,
        loaded=loaded,
        filled=filled,
        parts={
            "weights": need.weights,
            "kv_cache": need.kv_cache,
            "overhead": need.overhead,
            "reserve": need.reserve,
        },
    )


async def _fill(engine: Engine, spec: ReplicaSpec, slot: int) -> None:
    words = max(2, spec.files.vocabulary - 300)
    count = round(spec.context_tokens * FILLED) - 8
    # Another beginning in each slot, so that none finds its prompt in a neighbour's.
    tokens = [300 + (slot * 7 + at * (slot + 3)) % words for at in range(count)]
    if spec.files.pooling:
        path, body = "/v1/embeddings", {"input": tokens}
    else:
        path = "/completion"
        body = {"prompt": tokens, "n_predict": 4, "id_slot": slot, "ignore_eos": True}
    with await engine.pool.request(
        "POST", path, ((b"content-type", b"application/json"),), json.dumps(body).encode(),
        first_byte_timeout_s=300.0,
    ) as response:  # fmt: skip
        answer = await response.read(1 << 24)
        if response.status != 200:
            raise RuntimeError(answer.decode(errors="replace")[:500])


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.footprints", description=__doc__)
    parser.add_argument("--only", nargs="*", default=[])
    parser.add_argument("--out", type=Path)
    args = parser.parse_args()
    cases = [one for one in _cases() if not args.only or one.name in args.only]
    with tempfile.TemporaryDirectory(prefix="helexa-footprints-") as name:
        found = anyio.run(measure, cases, Path(name))
    within = sum(abs(one.error) <= WITHIN for one in found)
    print(f"{within} of {len(found)} within {WITHIN:.0%}, the worst "
          f"{max((one.error for one in found), key=abs):+.1%}")  # fmt: skip
    if args.out is not None:
        result = {
            "machine": dict(machine.describe()),
            "within_10_percent": within,
            "models": [
                {
                    "name": one.name,
                    "context_x_slots": one.spec,
                    "estimated_bytes": one.estimated,
                    "after_load_bytes": one.loaded,
                    "after_long_prompts_bytes": one.filled,
                    "error": round(one.error, 4),
                    "estimate": one.parts,
                }
                for one in found
            ],
        }
        args.out.write_text(json.dumps(result, indent=1) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
