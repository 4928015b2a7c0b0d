"""vLLM's OpenAI server, described rather than run.

Facts about that server which shape this file: it tells calls and thoughts from text only
by a parser that it is given by name; it leaves out in silence what it does not know; it
says `reasoning` where others say `reasoning_content`; a folder either generates or is
pooled, one server a role; what it forks goes on for ever when the server is killed.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence
from typing import Final

from helexa.protocol.errors import HelexaError
from helexa.protocol.openai import usage
from helexa.protocol.work import Modality, Usage, WorkloadClass
from helexa.runtime.contract import (
    Ability,
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
    Requirement,
    RuntimeAdapter,
    Tokens,
)
from helexa.runtime.openai import requests
from helexa.runtime.vllm import (
    build,
    command,
    load,
    memory,
    refusal,
    steering,
    templates,
    tokens,
    tuning,
)

_READY_WITHIN_S: Final = 900.0
"""It compiles the model's every step, and on a GPU records them for each size of a batch."""
_DISK_BYTES_PER_S: Final = 20e6
"""Of the slowest disk that weights are worth loading from."""
_STOP_GRACE_S: Final = 10.0
"""It took 3 s on two busy cores."""
_CHAT: Final = (WorkloadClass.CHAT_INTERACTIVE, WorkloadClass.CHAT_BULK)
_POOLINGS: Final = frozenset({"cls", "mean", "last"})
_ALWAYS: Final = (
    Ability.JSON_OBJECT,
    Ability.JSON_SCHEMA,
    Ability.GRAMMAR,
    Ability.LOGPROBS,
    Ability.CHOICES,
    Ability.SEED,
    Ability.PENALTIES,
    Ability.LOGIT_BIAS,
    Ability.CONTINUE_IDS,
)


@functools.lru_cache(maxsize=512)
def _offered(files: ModelFiles) -> Capabilities | None:
    # Kept, because a template is long and every request asks.
    if files.format != "safetensors":
        return None
    if files.pooling == "rank":
        return Capabilities(classes=(WorkloadClass.RERANK,))
    if files.pooling:
        able = frozenset({Ability.DIMENSIONS}) if files.dimensions else frozenset()
        offered = Capabilities(classes=(WorkloadClass.EMBEDDING,), abilities=able)
        return offered if files.pooling in _POOLINGS else None
    return _generates(files)


def _generates(files: ModelFiles) -> Capabilities:
    template = files.chat_template
    abilities = set(_ALWAYS)
    if not template:
        # It would answer each chat with a 400 of its own, once it has been loaded for it.
        return Capabilities(classes=(WorkloadClass.COMPLETION,), abilities=frozenset(abilities))
    abilities.add(Ability.CONTINUE_TEXT)
    if templates.tool_parser(template):
        abilities |= {Ability.TOOLS, Ability.TOOL_CHOICE, Ability.PARALLEL_TOOLS}
    if templates.reasoning_parser(template):
        abilities.add(Ability.REASONING)
    classes = (*_CHAT, WorkloadClass.COMPLETION)
    return Capabilities(
        classes=(*classes, WorkloadClass.VISION) if files.sees else classes,
        modalities=(Modality.TEXT, Modality.IMAGE) if files.sees else (Modality.TEXT,),
        abilities=frozenset(abilities),
    )


class Vllm:
    name = refusal.NAME
    requirement = Requirement(module="vllm", install="pip install vllm")
    arguments = tuning.ARGUMENTS
    program = "vllm"
    load_path = "/metrics"
    picture_types = ("png", "jpeg", "gif", "webp")

    def serves(self, files: ModelFiles) -> Capabilities | None:
        return _offered(files)

    def footprint(self, spec: ReplicaSpec) -> Footprint:
        return memory.footprint(spec)

    def devices(self, spec: ReplicaSpec) -> DeviceWish | None:
        if not build.computes_on_devices(spec.installation):
            return None
        across = tuning.workers(spec.arguments)
        if spec.arguments.get("distributed_executor_backend") == "ray":
            # What is beyond this machine is Ray's to lend.
            return DeviceWish(
                least=1,
                most=across,
                vendors=build.VENDORS,
                bytes_each=memory.DEVICE_BYTES,
                needed=True,
            )
        return DeviceWish(
            least=across,
            most=across,
            vendors=build.VENDORS,
            bytes_each=memory.DEVICE_BYTES,
            needed=True,
        )

    def plan(self, spec: ReplicaSpec, grant: Grant) -> LaunchPlan:
        return LaunchPlan(
            argv=command.argv(spec, grant),
            env=command.environment(spec, grant),
            ready_within_s=_READY_WITHIN_S + spec.files.weights_bytes / _DISK_BYTES_PER_S,
            stop_grace_s=_STOP_GRACE_S,
        )

    def chat(self, body: bytes, spec: ReplicaSpec) -> ChildRequest:
        offered = self._does(spec)
        raw = requests.chat(body, spec, offered, runtime=self.name)
        steering.check(body, raw, tuning.images_max(spec.arguments))
        changes = {**requests.generation(raw, spec), **steering.changes(raw, spec)}
        rewrite = steering.rewriting(offered.abilities)
        return requests.streamed(Endpoint.CHAT, raw, changes, rewrite=rewrite)

    def text(self, body: bytes, spec: ReplicaSpec) -> ChildRequest:
        raw = requests.text(body, spec, self._does(spec), runtime=self.name)
        steering.check(body, raw, 0)
        changes = {**requests.generation(raw, spec), **steering.changes(raw, spec)}
        return requests.streamed(Endpoint.COMPLETIONS, raw, changes)

    def embedding(self, body: bytes, spec: ReplicaSpec) -> ChildRequest:
        raw = requests.embedding(body, spec, self._does(spec), runtime=self.name)
        steering.check(body, raw, 0)
        return requests.whole(Endpoint.EMBEDDINGS, body)

    def rerank(self, body: bytes, spec: ReplicaSpec) -> ChildRequest:
        raw = requests.rerank(body, spec, self._does(spec), runtime=self.name)
        steering.check(body, raw, 0)
        return requests.whole(Endpoint.RERANK, body)

    def tokens_of_text(
        self, text: str | Sequence[str], spec: ReplicaSpec, *, special: bool = True
    ) -> Asking[Tokens]:
        return tokens.of_text(text, spec, special=special)

    def tokens_of_chat(
        self, body: bytes, spec: ReplicaSpec, *, special: bool | None = None
    ) -> Asking[Tokens]:
        return tokens.of_chat(self.chat(body, spec).body, spec, special=special)

    def text_of(self, ids: Sequence[int], spec: ReplicaSpec) -> Asking[str]:
        return tokens.text_of(ids, spec)

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
        return load.read(body)


adapter: RuntimeAdapter = Vllm()
