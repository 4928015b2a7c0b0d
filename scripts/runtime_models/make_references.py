"""What transformers makes of the models here, written down for tests that have no transformers.

    python scripts/runtime_models/make_references.py --models DIR

DIR is what `python scripts/runtime_models --out DIR` wrote. Needs requirements.txt.
"""

from __future__ import annotations

import argparse
import json
import os
from pathlib import Path
from typing import Any

os.environ["HF_HUB_OFFLINE"] = "1"

import torch
from transformers import AutoModel, AutoModelForSequenceClassification, AutoTokenizer

REFERENCES = Path(__file__).parent / "references"
DIGITS = 7

LONG = (
    "A very long sentence is one that goes on and on, with clause after clause, until the reader "
    "has forgotten how it began, and then goes on a little more for good measure."
)
SENTENCES = (
    "A cat sits on the mat.",
    "A kitten is resting on a rug.",
    "The stock market fell sharply on Monday.",
    "How do I change a flat tyre?",
    "Replacing a punctured wheel takes ten minutes.",
    "helexa is a federated AI fabric.",
    "Machines that run models join together.",
    "What is the capital of France?",
    "Paris is the capital and largest city of France.",
    "The quick brown fox jumps over the lazy dog.",
    "x",
    "Two plus two is four, and 1,234.5 is a number.",
    "Please send the invoice to the address below - by Friday!",
    "It rained all night; the river rose by a metre.",
    "UPPER CASE AND lower case",
    LONG,
    "def add(a, b): return a + b",
    "Caf\u00e9 na\u00efve r\u00e9sum\u00e9",
    "the the the the",
    "Goodbye.",
)
QUERIES = {
    "What is the capital of France?": (SENTENCES[8], SENTENCES[0], SENTENCES[2], SENTENCES[13]),
    "How do I repair a tyre?": (SENTENCES[4], SENTENCES[3], SENTENCES[9]),
    "What is helexa?": (SENTENCES[5], SENTENCES[6], SENTENCES[10], SENTENCES[15], SENTENCES[19]),
}


@torch.inference_mode()
def vectors(folder: Path) -> list[list[float]]:
    """One sentence at a time, so that nothing is padded: means over all tokens, of length one."""
    tokenizer, model = AutoTokenizer.from_pretrained(folder), AutoModel.from_pretrained(folder)
    found = []
    for sentence in SENTENCES:
        read = tokenizer(sentence, return_tensors="pt", padding=False, truncation=False)
        mean = model.eval()(**read).last_hidden_state[0].double().mean(0)
        found.append(rounded((mean / mean.norm()).tolist()))
    return found


@torch.inference_mode()
def scores(folder: Path) -> list[dict[str, Any]]:
    """The single label's logit of each pair, as it comes and through a sigmoid."""
    tokenizer = AutoTokenizer.from_pretrained(folder)
    model = AutoModelForSequenceClassification.from_pretrained(folder).eval()
    found = []
    for query, documents in QUERIES.items():
        logits = [
            model(**tokenizer(query, one, return_tensors="pt")).logits.double().item()
            for one in documents
        ]
        squeezed = torch.tensor(logits).sigmoid().tolist()
        found.append(
            {
                "query": query,
                "documents": documents,
                "logits": rounded(logits),
                "scores": rounded(squeezed),
            }
        )
    return found


def rounded(values: list[float]) -> list[float]:
    return [round(value, DIGITS) for value in values]


def main() -> None:
    parser = argparse.ArgumentParser(description="Write what transformers makes of the models.")
    parser.add_argument("--models", type=Path, required=True)
    options = parser.parse_args()
    for name in ("all-minilm-l6-v2", "tiny-embed"):
        found = vectors(options.models / name)
        write(name, {"sentences": SENTENCES, "vectors": found})
    write("tiny-rerank", scores(options.models / "tiny-rerank"))


def write(name: str, value: Any) -> None:
    REFERENCES.mkdir(exist_ok=True)
    path = REFERENCES / f"{name}.json"
    path.write_text(json.dumps(value, ensure_ascii=False) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
