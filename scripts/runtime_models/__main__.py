"""Make models for engines that do not read GGUF, from what is in this repository and from PyPI.

    python scripts/runtime_models --out DIR [--only NAME ...] [--references]

Standard library only and without training; the same input gives the same bytes. References, which
are what transformers makes of the models, need requirements.txt.
"""

from __future__ import annotations

import argparse
import json
import re
import sys
from collections.abc import Callable
from pathlib import Path

from moulds import llama, llava, sentences, tiny_bert

HERE = Path(__file__).parent
DEMO = HERE.parent.parent / "src" / "helexa" / "neuron" / "models" / "demo"
QUESTIONS = HERE.parent / "demo_models" / "questions.json"


def words() -> set[str]:
    """That the demo model uses, for the vocabulary of the small BERTs."""
    pairs = json.loads(QUESTIONS.read_text(encoding="utf-8"))
    text = " ".join(part for pair in pairs for part in pair.values()).lower()
    return set(re.findall(r"[a-z]{2,}", text))


def makers(cache: Path) -> dict[str, Callable[[Path], None]]:
    return {
        "helexa-demo": lambda out: llama.make(DEMO / "helexa-demo.gguf", out / "helexa-demo"),
        "helexa-demo-vision": lambda out: llava.make(
            DEMO / "helexa-demo-vision.gguf",
            DEMO / "helexa-demo-vision.mmproj.gguf",
            out / "helexa-demo-vision",
        ),
        sentences.NAME: lambda out: sentences.make(out, cache),
        "tiny-bert": lambda out: tiny_bert.make(out, words()),
    }


def main() -> int:
    parser = argparse.ArgumentParser(description="Make models for engines that do not read GGUF.")
    parser.add_argument("--out", type=Path, required=True, help="folder for the models")
    parser.add_argument("--cache", type=Path, help="folder for what is downloaded (OUT/.cache)")
    parser.add_argument("--only", nargs="+", default=[], help="the names of those to make")
    options = parser.parse_args()
    known = makers(options.cache or options.out / ".cache")
    if unknown := set(options.only) - set(known):
        parser.error(f"no model named {', '.join(sorted(unknown))}; there are {', '.join(known)}")
    options.out.mkdir(parents=True, exist_ok=True)
    for name, make in known.items():
        if not options.only or name in options.only:
            make(options.out)
            print(f"made {name}", flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
