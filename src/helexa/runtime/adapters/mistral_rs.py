"""mistral.rs (the mistralrs package), described rather than run.

The package has no server of its own: `children/mistral_rs.py` is one around it, and knows what
was learnt about the engine. Facts which shape this file: it takes GGUF and safetensors of the
architectures that it names and no others; a seed is the engine's and not a request's; it sizes
itself to the machine on a GPU and grows with the conversations on a processor.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Mapping, Sequence
from typing import Any, Final

from helexa.protocol.errors import HelexaError
from helexa.protocol.openai import usage
from helexa.protocol.work import Usage, WorkloadClass
from helexa.runtime import exits, own_child
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
    ExitReason,
    Footprint,
    Grant,
    LaunchPlan,
    ModelFiles,
    ReplicaSpec,
    Requirement,
    RuntimeAdapter,
    Tokens,
)
from helexa.runtime.mistral_rs import architectures, memory
from helexa.runtime.openai import abilities, efforts, requests

_READY_WITHIN_S: Final = 120.0
_DISK_BYTES_PER_S: Final = 20e6
_DEVICE_BYTES: Final = 600 << 20
"""Of the engine on a device: its context there and its code. Not measured here."""
_WEIGHTS_BYTES_PER_THREAD: Final = 16 * 1024 * 1024
_WORDS: Final = ("enable_thinking",)
"""That the engine hands to a template."""
_CHAT: Final = (WorkloadClass.CHAT_INTERACTIVE, WorkloadClass.CHAT_BULK)
_ALWAYS: Final = frozenset(
    {
        Ability.JSON_OBJECT,
        Ability.JSON_SCHEMA,
        Ability.GRAMMAR,
        Ability.LOGPROBS,
        Ability.CHOICES,
        Ability.PENALTIES,
        Ability.LOGIT_BIAS,
        Ability.DETERMINISTIC,
    }
)
_TOOLS: Final = frozenset({Ability.TOOLS, Ability.TOOL_CHOICE, Ability.PARALLEL_TOOLS})
_PHRASES: Final = (
    (
        re.compile(r"Unknown normal-model GGUF architecture|Unsupported Hugging Face Transformers"),
        ExitReason.ARCHITECTURE_UNKNOWN,
    ),
    (
        re.compile(
            r"out of memory|memory allocation of \d+ bytes failed|cannot allocate memory|"
            r"does not fit on the devices|CUDA_ERROR_OUT_OF_MEMORY",
            re.IGNORECASE,
        ),
        ExitReason.OUT_OF_MEMORY,
    ),
    (re.compile(r"couldn't bind"), ExitReason.SOCKET_TAKEN),
    (re.compile(r"No module named '?mistralrs"), ExitReason.NOT_INSTALLED),
    (re.compile(r"mistral_rs did not start"), ExitReason.MODEL_UNREADABLE),
)


@functools.lru_cache(maxsize=512)
def _offered(files: ModelFiles) -> Capabilities | None:
    # Kept, because a template is long and every request asks.
    if files.pooling or files.projector is not None or files.sees or not _is_known(files):
        return None
    template = files.chat_template
    if not template:
        return Capabilities(classes=(WorkloadClass.COMPLETION,), abilities=_ALWAYS)
    found = _ALWAYS | {Ability.CONTINUE_TEXT}
    if _calls_tools(files):
        found |= _TOOLS
    if _thinks(files):
        found |= {Ability.REASONING}
    return Capabilities(classes=(*_CHAT, WorkloadClass.COMPLETION), abilities=found)


def _is_known(files: ModelFiles) -> bool:
    match files.format:
        case "gguf":
            return files.architecture in architectures.GGUF
        case "safetensors":
            return files.model_class in architectures.SAFETENSORS
    return False


def _calls_tools(files: ModelFiles) -> bool:
    """In the way that our child reads; of the engine's own it is not sure."""
    return "tools" in files.chat_template and "<tool_call>" in files.chat_template


def _thinks(files: ModelFiles) -> bool:
    return "<think>" in files.chat_template


class MistralRs:
    name = "mistral_rs"
    requirement = Requirement(module="mistralrs", install="pip install 'helexa[mistral_rs]'")
    load_path = own_child.LOAD_PATH
    arguments: Sequence[Argument] = (
        Argument(
            name="prefixes", kind=int, least=0, most=256,
            help="conversations whose keys and values are kept for the next question",
        ),
        Argument(name="threads", kind=int, least=1, most=1_024, help="that compute"),
    )  # fmt: skip

    def serves(self, files: ModelFiles) -> Capabilities | None:
        return _offered(files)

    def footprint(self, spec: ReplicaSpec) -> Footprint:
        return memory.footprint(spec)

    def devices(self, spec: ReplicaSpec) -> DeviceWish | None:
        # The package computes on the processor alone; what an operator built himself may do more.
        if spec.installation.python is None:
            return None
        return DeviceWish(bytes_each=_DEVICE_BYTES)

    def plan(self, spec: ReplicaSpec, grant: Grant) -> LaunchPlan:
        files = spec.files
        wanted = {
            "model": files.model,
            "socket": str(grant.socket),
            "slots": spec.slots,
            "context_tokens": spec.context_tokens,
            "weights": str(files.weights),
            "format": files.format,
            "template": files.chat_template,
            "tools": _calls_tools(files),
            "thinks": _thinks(files),
            "scratch": str(grant.scratch),
            # Alone in the engine an answer cannot depend on what else runs.
            "at_once": 1 if spec.deterministic else spec.slots,
            "prefixes": memory.prefixes(spec),
            "more": _on_devices(spec) if grant.devices else {},
        }
        return LaunchPlan(
            argv=own_child.argv(self.name, wanted, spec.installation),
            env=_environment(spec),
            ready_within_s=_READY_WITHIN_S + files.weights_bytes / _DISK_BYTES_PER_S,
        )

    def chat(self, body: bytes, spec: ReplicaSpec) -> ChildRequest:
        offered = self._does(spec)
        raw = requests.chat(body, spec, offered, runtime=self.name)
        changes = requests.generation(raw, spec)
        changes.update(efforts.taken_out(raw, spec, offered, runtime=self.name, words=_WORDS))
        return requests.streamed(Endpoint.CHAT, raw, changes)

    def text(self, body: bytes, spec: ReplicaSpec) -> ChildRequest:
        raw = requests.text(body, spec, self._does(spec), runtime=self.name)
        return requests.streamed(Endpoint.COMPLETIONS, raw, requests.generation(raw, spec))

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
        return self.serves(spec.files) or Capabilities(classes=())

    def refusal(self, status: int, body: bytes, spec: ReplicaSpec) -> HelexaError:
        return own_child.meaning(status, body, spec, runtime=self.name)

    def usage(self, event: bytes) -> Usage | None:
        return usage.read(event)

    def explain_exit(self, status: int, log_tail: str) -> Exit:
        return exits.explained(status, log_tail, _PHRASES)

    def load(self, body: bytes) -> EngineLoad:
        return own_child.load(body)


def _on_devices(spec: ReplicaSpec) -> Mapping[str, Any]:
    """Else it takes most of a GPU for keys and values, whatever it was asked for."""
    return {"memory_goal": f"{spec.context_tokens * spec.slots}tokens"}


def _environment(spec: ReplicaSpec) -> Mapping[str, str]:
    found = {
        "HF_HUB_OFFLINE": "1",
        "RUST_LOG": "error",
        "RUST_BACKTRACE": "0",
        "NO_COLOR": "1",
        **spec.installation.environment,
    }
    if threads := _threads(spec):
        found["RAYON_NUM_THREADS"] = str(threads)
    return found


def _threads(spec: ReplicaSpec) -> int:
    """Threads that meet after every layer of a small model wait more than they compute.

    On two busy cores a model of 1 MB ran a hundred times as fast with one as with two.
    """
    if asked := spec.arguments.get("threads"):
        return int(asked)
    useful = 1 + spec.files.weights_bytes // _WEIGHTS_BYTES_PER_THREAD
    return min(spec.threads, useful) if spec.threads else 0


adapter: RuntimeAdapter = MistralRs()
