"""llama.cpp's server (the xllamacpp package), described rather than run.

Facts about that server which shape this file: it divides `n_ctx` among its
slots; it answers any model name; it never notices that the client of a
non-streaming request has gone; a server that embeds is of no use for chat, so a
model is one or the other.
"""

from __future__ import annotations

import functools
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Final

from helexa.protocol.errors import HelexaError
from helexa.protocol.openai import body as bodies
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
    RuntimeAdapter,
    Tokens,
)
from helexa.runtime.llama_cpp import (
    build,
    chats,
    load,
    memory,
    plans,
    refusal,
    scores,
    shapes,
    steering,
    templates,
    thoughts,
    tokens,
    tuning,
)
from helexa.runtime.openai import requests
from helexa.runtime.openai.logprobs import TextLogprobs

_DEVICES_MOST: Final = 16
_DEVICE_BYTES: Final = 512 << 20
"""Of each device: its context and the code for it, with room for what differs by generation."""

_GENERATIVE: Final = (
    WorkloadClass.CHAT_INTERACTIVE,
    WorkloadClass.CHAT_BULK,
    WorkloadClass.COMPLETION,
)
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
    Ability.CONTINUE_TEXT,
    Ability.CONTINUE_IDS,
    Ability.TOOL_CHOICE,
)


@functools.lru_cache(maxsize=512)
def _offered(files: ModelFiles) -> Capabilities | None:
    # Kept, because a template is long and every request asks.
    if files.format != "gguf" or files.architecture == "clip":
        return None
    if files.pooling == "rank":
        return Capabilities(classes=(WorkloadClass.RERANK,))
    if files.pooling:
        cut = frozenset({Ability.DIMENSIONS} if files.dimensions else ())
        return Capabilities(classes=(WorkloadClass.EMBEDDING,), abilities=cut)
    seeing = files.projector is not None
    template = files.chat_template
    abilities = set(_ALWAYS)
    if templates.writes_calls(template):
        abilities |= {Ability.TOOLS, Ability.PARALLEL_TOOLS}
    if templates.thinks(template):
        abilities.add(Ability.REASONING)
    return Capabilities(
        classes=(*_GENERATIVE, WorkloadClass.VISION) if seeing else _GENERATIVE,
        modalities=(Modality.TEXT, Modality.IMAGE) if seeing else (Modality.TEXT,),
        abilities=frozenset(abilities - templates.lacks(template)),
    )


class LlamaCpp:
    name = "llama_cpp"
    picture_types = ("png", "jpeg", "gif")
    arguments = tuning.ARGUMENTS
    program = "llama-server"
    thinks_on = True
    load_path = load.COUNTERS_PATH
    detail_path = load.SLOTS_PATH

    def serves(self, files: ModelFiles) -> Capabilities | None:
        return _offered(files)

    def footprint(self, spec: ReplicaSpec) -> Footprint:
        return memory.footprint(spec)

    def devices(self, spec: ReplicaSpec) -> DeviceWish | None:
        vendors = build.vendors(spec.installation)
        if not vendors or not memory.offloaded(spec):
            return None
        return DeviceWish(most=_DEVICES_MOST, vendors=vendors, bytes_each=_DEVICE_BYTES)

    def plan(self, spec: ReplicaSpec, grant: Grant) -> LaunchPlan:
        return plans.plan(spec, grant)

    def chat(self, body: bytes, spec: ReplicaSpec) -> ChildRequest:
        offered = self._does(spec)
        raw = requests.chat(body, spec, offered, runtime=self.name)
        return chats.request(raw, spec, offered)

    def text(self, body: bytes, spec: ReplicaSpec) -> ChildRequest:
        raw = requests.text(body, spec, self._does(spec), runtime=self.name)
        thoughts.check_format(raw)
        changes = {**requests.generation(raw, spec), **shapes.changes(raw)}
        rewrite = TextLogprobs if bodies.value(raw, "logprobs", int) else None
        return requests.streamed(Endpoint.COMPLETIONS, raw, changes, rewrite=rewrite)

    def embedding(self, body: bytes, spec: ReplicaSpec) -> ChildRequest:
        requests.embedding(body, spec, self._does(spec), runtime=self.name)
        return requests.whole(Endpoint.EMBEDDINGS, body)

    def rerank(self, body: bytes, spec: ReplicaSpec) -> ChildRequest:
        requests.rerank(body, spec, self._does(spec), runtime=self.name)
        rewrite = None if spec.files.architecture in scores.SHARES_ALREADY else scores.Shares
        return replace(requests.whole(Endpoint.RERANK, body), rewrite=rewrite)

    def tokens_of_text(
        self, text: str | Sequence[str], spec: ReplicaSpec, *, special: bool = True
    ) -> Asking[Tokens]:
        del spec
        return tokens.of_text(text, special=special)

    def tokens_of_chat(
        self, body: bytes, spec: ReplicaSpec, *, special: bool | None = None
    ) -> Asking[Tokens]:
        return tokens.of_chat(self.chat(body, spec).body, special=special is not False)

    def text_of(self, ids: Sequence[int], spec: ReplicaSpec) -> Asking[str]:
        del spec
        return tokens.text_of(ids)

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

    def questions(self, spec: ReplicaSpec) -> Sequence[ChildRequest]:
        return () if spec.files.pooling else steering.questions()

    def learn(self, spec: ReplicaSpec, answers: Sequence[tuple[int, bytes]]) -> Mapping[str, str]:
        del spec
        return steering.learn(answers)

    def load(self, body: bytes) -> EngineLoad:
        return load.of_counters(body)

    def detailed(self, load_: EngineLoad, body: bytes) -> EngineLoad:
        return load.with_slots(load_, body)


adapter: RuntimeAdapter = LlamaCpp()
