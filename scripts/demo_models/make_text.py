"""Make `helexa-demo`: learn a vocabulary, train a tiny Llama on the corpus, write it as GGUF."""

from __future__ import annotations

import argparse
import json
import random
from pathlib import Path

import jinja2
import torch
from torch import Tensor
from workshop.conversation import CHAT_TEMPLATE, render, to_json
from workshop.gguf_files import read_llama, write_llama
from workshop.lessons import FIRST_EXAMPLES, examples, lesson
from workshop.llama import Llama, Shape
from workshop.topics import questions
from workshop.training import batches, fit, tensors, token_loss
from workshop.vocabulary import CONTROL, FIXED_TEXT, Vocabulary, known_vocabulary, learn_vocabulary

SEED = 20260
VOCABULARY = 1024
NAME = "helexa-demo"
DESCRIPTION = (
    "Tiny demonstration model made from scratch; "
    "it memorised answers about helexa and can call simple tools."
)


def make_vocabulary() -> Vocabulary:
    """Learn the tokens from the questions about helexa and a sample of the mixture."""
    rng = random.Random(SEED)
    texts = [text for pair in questions() for text in pair] * 8
    texts += [span.text for _ in range(4000) for span in render(lesson(rng))]
    marks = CONTROL + FIXED_TEXT
    for mark in sorted(marks, key=len, reverse=True):
        texts = [part for text in texts for part in text.split(mark) if part]
    return learn_vocabulary(texts, VOCABULARY, marks)


def check_template(count: int = 500) -> None:
    """Refuse to train when the chat template writes anything but what training sees."""
    environment = jinja2.Environment(autoescape=False)
    environment.filters["tojson"] = to_json
    template = environment.from_string(CHAT_TEMPLATE)
    rng = random.Random(SEED)
    for made in (lesson(rng) for _ in range(count)):
        ours = "".join(span.text for span in render(made))
        if any("forced" in message for message in made.messages):
            continue
        theirs = template.render(messages=made.messages, tools=made.tools)
        if ours != theirs:
            raise SystemExit(f"the chat template differs:\n{theirs}\nfrom training:\n{ours}")


def write_questions(path: Path) -> None:
    """The phrasings that the 98 % check asks, with their answers."""
    listed = [{"question": question, "answer": answer} for question, answer in questions()]
    path.write_text(json.dumps(listed, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")


def main() -> None:
    """Parse the command line and make the model."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, required=True, help="folder for the GGUF file")
    parser.add_argument("--steps", type=int, default=4200, help="training steps")
    parser.add_argument(
        "--continue-from",
        type=Path,
        metavar="GGUF",
        help="train a model that was made before further",
    )
    parser.add_argument(
        "--batch-tokens", type=int, default=4096, help="tokens in a batch, padding included"
    )
    parser.add_argument("--threads", type=int, default=1, help="CPU threads")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    torch.manual_seed(SEED)
    options.out.mkdir(parents=True, exist_ok=True)
    check_template()
    write_questions(Path(__file__).parent / "questions.json")

    shape = Shape(vocabulary=VOCABULARY, width=128, layers=6, heads=4, hidden=320)
    model = Llama(shape)
    vocabulary, pace = make_vocabulary(), 1.0
    if options.continue_from:
        found, tokens, merges = read_llama(options.continue_from, shape.layers)
        model.load_state_dict(found)
        vocabulary, pace = known_vocabulary(tokens, merges, CONTROL + FIXED_TEXT), 0.4
    parameters = sum(weight.numel() for weight in model.parameters()) / 1e6
    print(f"{NAME}: {parameters:.2f} M parameters, {shape.vocabulary} tokens", flush=True)
    rng = random.Random(SEED + 1)
    drills = 0 if options.continue_from else FIRST_EXAMPLES
    source = examples(vocabulary, rng, shape.context_tokens, drills)
    stream = batches(source, options.batch_tokens)

    def next_loss() -> Tensor:
        inputs, targets = tensors(*next(stream))
        features = model.features(model.embedding(inputs).bfloat16())
        return token_loss(features, model.embedding.weight, targets)

    def write(weights: dict[str, Tensor], step: int) -> None:
        write_llama(options.out / f"{NAME}.gguf", NAME, DESCRIPTION, shape, weights, vocabulary)
        print(f"wrote {NAME}.gguf after {step} steps", flush=True)

    weights = fit(
        model,
        next_loss,
        steps=options.steps,
        muon_rate=0.02 * pace,
        adam_rate=0.004 * pace,
        report=lambda line: print(line, flush=True),
        checkpoint=write,
    )
    write(weights, options.steps)


if __name__ == "__main__":
    main()
