"""Make `helexa-demo-vision`: a tiny Llama and a tiny vision transformer, trained together."""

from __future__ import annotations

import argparse
import random
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional
from workshop.conversation import render
from workshop.gguf_files import write_llama
from workshop.llama import Linear, Llama, Shape
from workshop.pictures import COLOURS, SHAPES, Picture, picture
from workshop.sights import TALK, Album, Sight, conversation, sight
from workshop.training import fit, token_loss
from workshop.vision import Eye, EyeShape, patches, write_eye
from workshop.vocabulary import CONTROL, FIXED_TEXT, IMAGE_MARKER, Vocabulary, learn_vocabulary

SEED = 20270
VOCABULARY = 608
NAME = "helexa-demo-vision"
DESCRIPTION = (
    "Tiny demonstration model made from scratch; "
    "it names the colours and the shape in a simple picture."
)
ROW_TOKENS = 128


class Seeing(nn.Module):
    """Eye and language model, and heads that are used only while learning."""

    def __init__(self, eye: EyeShape, language: Shape) -> None:
        """Make the weights."""
        super().__init__()
        self.eye = Eye(eye, language.width)
        self.language = Llama(language)
        self.name_head = Linear(eye.width, len(SHAPES) + 2 * len(COLOURS))
        self.mask_head = Linear(eye.width, eye.patch**2)

    def look(
        self, album: Album, numbers: list[int], coin: np.random.Generator
    ) -> tuple[Tensor, Tensor]:
        """See some pictures, half of them mirrored: what is seen, and the loss of seeing it.

        The names are told from the mean of all patches. The mask, told by each patch early on,
        gets the shapes learnt: without it they stay unnoticed for thousands of steps.
        """
        flips = coin.random(len(numbers)) < 0.5
        pixels, masks = album.pixels[numbers], album.masks[numbers]
        pixels[flips], masks[flips] = pixels[flips, :, ::-1], masks[flips, :, ::-1]
        early, seen = self.eye.layers(torch.from_numpy(pixels))
        told = self.name_head(seen.mean(1)).float()
        names = torch.tensor([album.names[number] for number in numbers])
        parts = enumerate(told.split([len(SHAPES), len(COLOURS), len(COLOURS)], -1))
        loss = sum(functional.cross_entropy(part, names[:, which]) for which, part in parts)
        patched = patches(torch.from_numpy(masks)[..., None].float(), self.eye.shape)
        masked = functional.binary_cross_entropy_with_logits(self.mask_head(early).float(), patched)
        return seen, loss + masked

    def forward(self, batch: list[Sight], album: Album, coin: np.random.Generator) -> Tensor:
        """The loss of the words of the answers, and a little of that of seeing."""
        tokens = torch.from_numpy(np.stack([row.tokens for row in batch]))
        embedded = self.language.embedding(tokens).bfloat16()
        shown = [number for number, row in enumerate(batch) if row.picture >= 0]
        seen, seeing = self.look(album, [batch[number].picture for number in shown], coin)
        places = torch.tensor([batch[number].place for number in shown])[:, None]
        places = places + torch.arange(self.eye.shape.patches)
        rows = torch.tensor(shown)[:, None]
        embedded = embedded.index_put((rows, places), self.eye.project(seen))
        targets = torch.from_numpy(np.stack([row.targets for row in batch]))
        output = self.language.embedding.weight
        return token_loss(self.language.features(embedded), output, targets) + 0.2 * seeing


def make_vocabulary() -> Vocabulary:
    """Learn the tokens from a sample of the corpus."""
    rng = random.Random(SEED)
    shown: list[Picture | None] = [picture(rng) for _ in range(200)]
    texts = [text for pair in TALK for text in pair] * 8
    sample = (
        conversation(rng, rng.choice(shown) if rng.random() < 0.7 else None) for _ in range(3000)
    )
    texts += [span.text for made in sample for span in render(made)]
    marks = (*CONTROL, IMAGE_MARKER, *FIXED_TEXT[:6])
    for mark in sorted(marks, key=len, reverse=True):
        texts = [part for text in texts for part in text.split(mark) if part]
    return learn_vocabulary(texts, VOCABULARY, marks)


def main() -> None:
    """Parse the command line and make the model."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, required=True, help="folder for the two GGUF files")
    parser.add_argument("--eye-steps", type=int, default=4000, help="steps of the eye alone")
    parser.add_argument("--steps", type=int, default=1500, help="steps of eye and language")
    parser.add_argument("--batch", type=int, default=64, help="rows in a batch")
    parser.add_argument("--pictures", type=int, default=40_000, help="pictures to draw")
    parser.add_argument("--threads", type=int, default=1, help="CPU threads")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    torch.manual_seed(SEED)
    options.out.mkdir(parents=True, exist_ok=True)

    vocabulary = make_vocabulary()
    eye = EyeShape(width=128, layers=5, heads=4, hidden=320)
    language = Shape(vocabulary=len(vocabulary.tokens), width=96, layers=4, heads=3, hidden=256)
    model = Seeing(eye, language)
    parameters = sum(weight.numel() for weight in model.parameters()) / 1e6
    print(f"{NAME}: {parameters:.2f} M parameters, {language.vocabulary} tokens", flush=True)
    rng = random.Random(SEED + 1)
    album = Album(rng, options.pictures, eye)
    print(f"drew {options.pictures} pictures", flush=True)
    coin = np.random.default_rng(SEED)

    def eye_loss() -> Tensor:
        numbers = [rng.randrange(options.pictures) for _ in range(options.batch)]
        return model.look(album, numbers, coin)[1]

    def whole_loss() -> Tensor:
        batch = [sight(rng, album, vocabulary, eye, ROW_TOKENS) for _ in range(options.batch)]
        return model(batch, album, coin)

    def write(weights: dict[str, Tensor], step: int) -> None:
        parts = {
            part: {k.removeprefix(part): v for k, v in weights.items() if k.startswith(part)}
            for part in ("language.", "eye.")
        }
        write_llama(
            options.out / f"{NAME}.gguf",
            NAME,
            DESCRIPTION,
            language,
            parts["language."],
            vocabulary,
        )
        write_eye(
            options.out / f"{NAME}.mmproj.gguf",
            NAME,
            DESCRIPTION,
            eye,
            language.width,
            parts["eye."],
        )
        print(f"wrote {NAME} after {step} steps", flush=True)

    rates = {"muon_rate": 0.02, "adam_rate": 0.003}
    model.load_state_dict(fit(model, eye_loss, steps=options.eye_steps, report=report, **rates))
    weights = fit(model, whole_loss, steps=options.steps, report=report, checkpoint=write, **rates)
    write(weights, options.steps)


def report(line: str) -> None:
    """Show progress at once."""
    print(line, flush=True)


if __name__ == "__main__":
    main()
