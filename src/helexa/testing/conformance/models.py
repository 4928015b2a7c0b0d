"""Small models that show what the demo models cannot; random, so only their form is looked at."""

from __future__ import annotations

from pathlib import Path
from typing import Final

from helexa.testing import tiny_gguf

THINKER, EMBEDDER, RANKER = "tiny-thinker", "tiny-embedder", "tiny-ranker"
_THINKING: Final = (
    "{%- for message in messages -%}"
    "{%- if message.role == 'assistant' and message.reasoning_content -%}"
    "{{- '<|im_start|>assistant\n<think>\n' + message.reasoning_content + '\n</think>\n\n' -}}"
    "{{- message.content + '<|im_end|>\n' -}}"
    "{%- else -%}"
    "{{- '<|im_start|>' + message.role + '\n' + message.content + '<|im_end|>\n' -}}"
    "{%- endif -%}"
    "{%- endfor -%}"
    "{%- if add_generation_prompt -%}{{- '<|im_start|>assistant\n' -}}{%- endif -%}"
)
_MEAN, _RANK = 1, 4


def write(folder: Path) -> Path:
    """As GGUF, each by its name."""
    tiny_gguf.write(folder / f"{THINKER}.gguf", chat_template=_THINKING)
    tiny_gguf.write(folder / f"{EMBEDDER}.gguf", pooling=_MEAN)
    tiny_gguf.write(folder / f"{RANKER}.gguf", pooling=_RANK)
    return folder
