"""Hugging Face's transformers in a child of our own, described rather than run.

Facts which shape this file: the library runs nearly every model there is, and one step of
one request at a time; it has no grammars, which `llguidance` adds; weights stay in the type
that their file has.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence
from typing import Final

from helexa.protocol.errors import HelexaError
from helexa.protocol.openai import usage
from helexa.protocol.work import Modality, Usage, WorkloadClass
from helexa.runtime import own_child, torch_build
from helexa.runtime.contract import (
    Ability,
    Argument,
    Asking,
    Capabilities,
    ChildRequest,
    DeviceWish,
    Endpoint,
    EngineLoad,
    Exit,
    Footprint,
    Grant,
    LaunchPlan,
    ModelFiles,
    ReplicaSpec,
    RuntimeAdapter,
    Tokens,
)
from helexa.runtime.openai import abilities, efforts, requests
from helexa.runtime.transformers import memory, refusal

_READY_WITHIN_S: Final = 300.0
_DISK_BYTES_PER_S: Final = 20e6
"""Of the slowest disk that weights are worth loading from."""
_WEIGHTS_BYTES_PER_THREAD: Final = 16 * 1024 * 1024
"""Of fewer, threads wait for one another more than they compute."""
_ENVIRONMENT: Final = {
    "HF_HUB_OFFLINE": "1",
    "HF_HUB_DISABLE_TELEMETRY": "1",
    "DO_NOT_TRACK": "1",
    "TOKENIZERS_PARALLELISM": "false",
    # Each thread's heap would keep what one long prompt took.
    "MALLOC_ARENA_MAX": "2",
    # Threads that wait keep the core that the others need.
    "OMP_WAIT_POLICY": "PASSIVE",
}
_DEVICES_MOST: Final = 8
_DEVICE_BYTES: Final = 700 * 1024 * 1024
"""Of torch on each device: its context and its code. Not measured here."""
_TYPES: Final = frozenset({"F32", "F16", "BF16"})
"""Packed weights need packages of their own."""
_CHAT: Final = (WorkloadClass.CHAT_INTERACTIVE, WorkloadClass.CHAT_BULK)
_POOLINGS: Final = frozenset({"mean", "cls", "last"})
_ALWAYS: Final = (
    Ability.JSON_OBJECT,
    Ability.JSON_SCHEMA,
    Ability.GRAMMAR,
    Ability.LOGPROBS,
    Ability.CHOICES,
    Ability.SEED,
    Ability.PENALTIES,
    Ability.LOGIT_BIAS,
    Ability.DETERMINISTIC,
    Ability.CONTINUE_IDS,
)


@functools.lru_cache(maxsize=512)
def _offered(files: ModelFiles) -> Capabilities | None:
    # Kept, because a template is long and every request asks.
    if files.format != "safetensors" or files.quantisation not in _TYPES:
        return None
    if files.pooling == "rank":
        return Capabilities(classes=(WorkloadClass.RERANK,))
    if files.pooling:
        able = frozenset({Ability.DIMENSIONS}) if files.dimensions else frozenset()
        offered = Capabilities(classes=(WorkloadClass.EMBEDDING,), abilities=able)
        return offered if files.pooling in _POOLINGS else None
    if not files.sees and files.model_class.endswith("ForConditionalGeneration"):
        return None  # It turns one text into another, or sounds: nothing that is asked for here.
    return _generates(files)


def _generates(files: ModelFiles) -> Capabilities:
    template = files.chat_template
    if not template:
        return Capabilities(classes=(WorkloadClass.COMPLETION,), abilities=frozenset(_ALWAYS))
    abilities = {*_ALWAYS, Ability.CONTINUE_TEXT}
    if "tools" in template and "<tool_call>" in template and "<function=" not in template:
        abilities |= {Ability.TOOLS, Ability.TOOL_CHOICE, Ability.PARALLEL_TOOLS}
    if "<think>" in template:
        abilities.add(Ability.REASONING)
    classes = (*_CHAT, WorkloadClass.COMPLETION)
    return Capabilities(
        classes=(*classes, WorkloadClass.VISION) if files.sees else classes,
        modalities=(Modality.TEXT, Modality.IMAGE) if files.sees else (Modality.TEXT,),
        abilities=frozenset(abilities),
    )


class Transformers:
    name = refusal.NAME
    requirement = refusal.REQUIREMENT
    load_path = own_child.LOAD_PATH
    arguments = (
        Argument(
            name="dtype",
            kind=str,
            help="the numbers that it computes with; auto is the type that the files have",
            choices=("auto", "float32", "bfloat16", "float16"),
        ),
        Argument(name="threads", kind=int, help="CPU threads", least=1, most=1024),
    )

    def serves(self, files: ModelFiles) -> Capabilities | None:
        return _offered(files)

    def footprint(self, spec: ReplicaSpec) -> Footprint:
        return memory.footprint(spec)

    def devices(self, spec: ReplicaSpec) -> DeviceWish | None:
        vendors = torch_build.vendors(spec.installation.python)
        if not vendors:
            return None
        return DeviceWish(most=_DEVICES_MOST, vendors=vendors, bytes_each=_DEVICE_BYTES)

    def plan(self, spec: ReplicaSpec, grant: Grant) -> LaunchPlan:
        files, offered = spec.files, self._does(spec)
        wanted = {
            "model": files.model,
            "socket": str(grant.socket),
            "slots": spec.slots,
            "weights": str(files.weights),
            "kind": _kind(offered),
            "context": spec.context_tokens,
            "pooling": files.pooling,
            "dimensions": sorted({*files.dimensions, files.embedding_length}),
            "reasoning": Ability.REASONING in offered.abilities,
            "devices": len(grant.devices),
            "threads": _threads(spec),
            "dtype": spec.arguments.get("dtype", "auto"),
        }
        env = {**_ENVIRONMENT, "HF_HOME": str(grant.scratch), **spec.installation.environment}
        return LaunchPlan(
            argv=own_child.argv(self.name, wanted, spec.installation),
            env=env,
            ready_within_s=_READY_WITHIN_S + files.weights_bytes / _DISK_BYTES_PER_S,
        )

    def chat(self, body: bytes, spec: ReplicaSpec) -> ChildRequest:
        offered = self._does(spec)
        raw = requests.chat(body, spec, offered, runtime=self.name)
        changes = requests.generation(raw, spec)
        changes.update(efforts.taken_out(raw, spec, offered, runtime=self.name))
        return requests.streamed(Endpoint.CHAT, raw, changes)

    def text(self, body: bytes, spec: ReplicaSpec) -> ChildRequest:
        raw = requests.text(body, spec, self._does(spec), runtime=self.name)
        return requests.streamed(Endpoint.COMPLETIONS, raw, requests.generation(raw, spec))

    def embedding(self, body: bytes, spec: ReplicaSpec) -> ChildRequest:
        requests.embedding(body, spec, self._does(spec), runtime=self.name)
        return requests.whole(Endpoint.EMBEDDINGS, body)

    def rerank(self, body: bytes, spec: ReplicaSpec) -> ChildRequest:
        requests.rerank(body, spec, self._does(spec), runtime=self.name)
        return requests.whole(Endpoint.RERANK, body)

    def tokens_of_text(
        self, text: str | Sequence[str], spec: ReplicaSpec, *, special: bool = True
    ) -> Asking[Tokens]:
        del spec
        return own_child.tokens_of_text(text, special=special)

    def tokens_of_chat(
        self, body: bytes, spec: ReplicaSpec, *, special: bool | None = None
    ) -> Asking[Tokens]:
        if special is not None:
            raise abilities.missing(
                "other special tokens than its template's", "add_special_tokens", spec, self.name
            )
        return own_child.tokens_of_chat(self.chat(body, spec).body)

    def text_of(self, ids: Sequence[int], spec: ReplicaSpec) -> Asking[str]:
        del spec
        return own_child.text_of(ids)

    def _does(self, spec: ReplicaSpec) -> Capabilities:
        offered = self.serves(spec.files)
        assert offered is not None
        return offered

    def refusal(self, status: int, body: bytes, spec: ReplicaSpec) -> HelexaError:
        return refusal.meaning(status, body, spec)

    def usage(self, event: bytes) -> Usage | None:
        return usage.read(event)

    def explain_exit(self, status: int, log_tail: str) -> Exit:
        return refusal.exit_of(status, log_tail)

    def load(self, body: bytes) -> EngineLoad:
        return own_child.load(body)


def _kind(offered: Capabilities) -> str:
    if WorkloadClass.EMBEDDING in offered.classes:
        return "embedding"
    if WorkloadClass.RERANK in offered.classes:
        return "rerank"
    return "vision" if Modality.IMAGE in offered.modalities else "text"


def _threads(spec: ReplicaSpec) -> int:
    if asked := spec.arguments.get("threads"):
        return int(asked)
    useful = 1 + spec.files.weights_bytes // _WEIGHTS_BYTES_PER_THREAD
    return min(spec.threads, useful) if spec.threads else 0


adapter: RuntimeAdapter = Transformers()
