"""The mixture that the vision model is trained on: pictures with questions, and some plain talk."""

from __future__ import annotations

import io
import random
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from .chatter import off_topic
from .conversation import Conversation, Message, answer_to
from .lessons import example, system_message
from .pictures import COLOURS, JPEG_SHARE, QUESTIONS, SHAPES, Picture, answer, as_jpeg, picture
from .topics import STOCK_ANSWER, TOPICS, VISION_STOCK_ANSWER, VISION_TOPICS
from .training import IGNORED
from .vision import EyeShape, prepared
from .vocabulary import IMAGE_MARKER, Vocabulary

KINDS = ("all", "all", "all", "colour", "shape", "ground")
_OWN = frozenset(phrasing for topic in VISION_TOPICS for phrasing in topic.phrasings)
# Greetings, thanks, and what helexa, a neuron and a cortex are: the rest is left to the text model.
_SHARED_STARTS = (
    "What is helexa?",
    "What is a neuron?",
    "What is a cortex?",
    "Hello",
    "How are you?",
    "Thanks",
    "Bye",
    "Is it working?",
    "ping",
)
TALK = tuple(
    (phrasing, topic.answer)
    for topic in (
        *VISION_TOPICS,
        *(topic for topic in TOPICS if topic.phrasings[0] in _SHARED_STARTS),
    )
    for phrasing in topic.phrasings
    if topic in VISION_TOPICS or phrasing not in _OWN
)


@dataclass(frozen=True)
class Sight:
    """One training row: tokens, targets, the picture's place, and the names of what it shows."""

    tokens: NDArray[np.int64]
    targets: NDArray[np.int64]
    picture: int
    place: int
    names: tuple[int, int, int]


class Album:
    """Pictures drawn once, prepared as the engine would, and used many times."""

    def __init__(self, rng: random.Random, count: int, shape: EyeShape) -> None:
        """Draw `count` pictures."""
        self.pixels = np.zeros((count, shape.image, shape.image, 3), dtype=np.uint8)
        self.masks = np.zeros((count, shape.image, shape.image), dtype=bool)
        self.shown: list[Picture] = []
        colours = sorted(COLOURS)
        self.names: list[tuple[int, int, int]] = []
        for number in range(count):
            drawn = picture(rng)
            image = drawn.image
            if rng.random() < JPEG_SHARE:
                image = Image.open(io.BytesIO(as_jpeg(rng, image)))
            self.pixels[number] = prepared(image, shape.image)
            if drawn.mask:
                self.masks[number] = prepared(drawn.mask, shape.image, 0)[:, :, 0] > 127
            self.shown.append(
                Picture(Image.new("RGB", (1, 1)), drawn.colour, drawn.shape, drawn.ground)
            )
            self.names.append(
                (
                    SHAPES.index(drawn.shape),
                    colours.index(drawn.colour),
                    colours.index(drawn.ground),
                )
            )


def about(rng: random.Random, seen: Picture) -> list[Message]:
    """One question about the picture and its answer."""
    kind = rng.choice(KINDS)
    question = rng.choice(QUESTIONS[kind])
    if rng.random() < 0.15:
        question = question.lower().rstrip("?.")
    return answer_to(question, answer(kind, seen))


def _with_picture(rng: random.Random, seen: Picture) -> list[Message]:
    turns = about(rng, seen)
    gap = rng.choice(("", "\n"))
    question = turns[0]["content"]
    turns[0]["content"] = (
        f"{IMAGE_MARKER}{gap}{question}" if rng.random() < 0.4 else f"{question}{gap}{IMAGE_MARKER}"
    )
    if rng.random() < 0.05:
        turns = [
            {"role": "user", "content": IMAGE_MARKER},
            {"role": "assistant", "content": seen.description},
        ]
    if rng.random() < 0.2:
        turns += about(rng, seen)
    return turns


def talk(rng: random.Random) -> list[Message]:
    """A plain question without a picture."""
    if rng.random() < 0.3:
        turns = off_topic(rng)
        return [turns[0], {"role": "assistant", "content": VISION_STOCK_ANSWER}]
    if rng.random() < 0.12:
        kind = rng.choice(KINDS)
        return answer_to(rng.choice(QUESTIONS[kind]), "There is no picture.")
    question, said = rng.choice(TALK)
    return answer_to(question, said if said != STOCK_ANSWER else VISION_STOCK_ANSWER)


def conversation(rng: random.Random, seen: Picture | None) -> Conversation:
    """A conversation with or without a picture."""
    turns = _with_picture(rng, seen) if seen else talk(rng)
    if not seen and rng.random() < 0.15:
        turns += talk(rng)
    if rng.random() < 0.3:
        turns = [system_message(rng), *turns]
    return Conversation(turns)


def sight(
    rng: random.Random, album: Album, vocabulary: Vocabulary, shape: EyeShape, length: int
) -> Sight:
    """One row: mostly about a picture, else plain talk. Rows that are too long are drawn again."""
    number = rng.randrange(len(album.shown)) if rng.random() < 0.75 else -1
    made = example(
        conversation(rng, album.shown[number] if number >= 0 else None), vocabulary, 100_000
    )
    tokens, learned = list(made.tokens), list(made.learned)
    place = -1
    if number >= 0:
        marker = vocabulary.ids[IMAGE_MARKER]
        place = tokens.index(marker)  # the engine puts nothing around the patches
        tokens[place : place + 1] = [marker] * shape.patches
        learned[place : place + 1] = [False] * shape.patches
    if len(tokens) > length + 1:
        return sight(rng, album, vocabulary, shape, length)
    row = np.zeros(length + 1, dtype=np.int64)
    row[: len(tokens)] = tokens
    wanted = np.full(length + 1, IGNORED, dtype=np.int64)
    wanted[: len(tokens)] = np.where(learned, tokens, IGNORED)
    return Sight(
        row[:-1], wanted[1:], number, place, album.names[number] if number >= 0 else (0, 0, 0)
    )
