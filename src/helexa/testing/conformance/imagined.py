"""Models that are on no disk, of every form, to ask an adapter what it would offer for them.

That a replica lacks something may be its runtime's doing or its model's. The matrix is about
runtimes, so a `no` there is what an adapter offers for none of these.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Final

from helexa.protocol.ids import ModelId
from helexa.protocol.work import Modality, WorkloadClass
from helexa.runtime.contract import Ability, Capabilities, ModelFiles, RuntimeAdapter
from helexa.testing.conformance.rows import Row

TEMPLATE: Final = (
    "{% if tools %}{{ tools | tojson }}{% endif %}{% for message in messages %}"
    "<|im_start|>{{ message.role }}\n"
    "{% if message.reasoning_content %}<think>\n{{ message.reasoning_content }}\n</think>\n"
    "{% endif %}{{ message.content }}"
    "{% for call in message.tool_calls or [] %}<tool_call>\n"
    '{"name": "{{ call.function.name }}", "arguments": {{ call.function.arguments | tojson }}}'
    "\n</tool_call>{% endfor %}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n"
    "{% if enable_thinking is defined and not enable_thinking %}<think>\n\n</think>\n\n{% endif %}"
    "{% endif %}"
)
EVERYTHING: Final = Capabilities(
    classes=tuple(WorkloadClass),
    modalities=tuple(Modality),
    abilities=frozenset(Ability),
)
_FORMATS: Final = ("gguf", "safetensors", "server")
_ARCHITECTURES: Final = (
    "llama",
    "LlamaForCausalLM",
    "BertModel",
    "BertForSequenceClassification",
    "LlavaForConditionalGeneration",
    "qwen2",
    "bert",
)
_POOLINGS: Final = ("", "mean", "rank")


def models() -> Iterator[ModelFiles]:
    for form, architecture, pooling, sees in itertools.product(
        _FORMATS, _ARCHITECTURES, _POOLINGS, (False, True)
    ):
        place = Path("/srv/models/imagined")
        yield ModelFiles(
            model=ModelId("imagined"),
            weights=place / "imagined.gguf" if form == "gguf" else place,
            projector=place / "imagined.mmproj.gguf" if sees and form == "gguf" else None,
            sees=sees,
            format=form,
            architecture=architecture,
            quantisation="F32",
            pooling=pooling,
            chat_template="" if pooling else TEMPLATE,
            dimensions=(8, 16) if pooling else (),
            weights_bytes=1 << 20,
            context_tokens_trained=4096,
            kv_bytes_per_token=64,
            embedding_length=32,
            layers=2,
            heads=2,
            vocabulary=512,
            told=EVERYTHING if form == "server" else None,
            server="there" if form == "server" else "",
        )


def offers(adapter: RuntimeAdapter, files: ModelFiles, row: Row) -> bool:
    """Whether it would offer what the row names for a model like this one, or for any imagined."""
    if row.declared is None:
        return True
    alike = replace(files, chat_template=TEMPLATE, dimensions=(8, 16))
    return any(
        offered is not None and row.declared(offered)
        for offered in map(adapter.serves, (alike, *models()))
    )
