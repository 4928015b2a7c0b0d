"""Simple pictures with their description: one coloured shape on a coloured ground.

Pillow only: `evaluate.py` draws its held-out pictures from here with another seed.
"""

from __future__ import annotations

import base64
import io
import math
import random
from dataclasses import dataclass

from PIL import Image, ImageDraw, ImageFilter

# What people call a colour covers several values; each gets some scatter when a picture is drawn.
COLOURS: dict[str, tuple[tuple[int, int, int], ...]] = {
    "red": ((255, 0, 0), (220, 20, 30), (200, 0, 0)),
    "green": ((0, 128, 0), (0, 200, 0), (0, 255, 0), (40, 160, 60)),
    "blue": ((0, 0, 255), (30, 60, 220), (20, 20, 180), (40, 100, 240)),
    "yellow": ((255, 255, 0), (250, 230, 30), (255, 240, 60)),
    "orange": ((255, 165, 0), (255, 140, 0), (250, 150, 30)),
    "purple": ((128, 0, 128), (110, 30, 160), (150, 20, 170)),
    "pink": ((255, 192, 203), (255, 105, 180), (255, 150, 200)),
    "black": ((0, 0, 0), (12, 12, 12)),
    "white": ((255, 255, 255), (244, 244, 244)),
    "grey": ((128, 128, 128), (150, 150, 150), (110, 110, 110)),
}
SHAPES = ("circle", "square", "triangle", "star", "cross")
SCATTER = 10
JPEG_SHARE = 0.4


@dataclass(frozen=True)
class Picture:
    """A picture and what is on it."""

    image: Image.Image
    colour: str
    shape: str
    ground: str
    mask: Image.Image | None = None

    @property
    def description(self) -> str:
        """The sentence that the model should say."""
        subject = f"{article(self.colour).capitalize()} {self.colour} {self.shape}"
        return f"{subject} on {article(self.ground)} {self.ground} background."


def article(word: str) -> str:
    """The indefinite article."""
    return "an" if word[0] in "aeiou" else "a"


def _scattered(rng: random.Random, name: str) -> tuple[int, int, int]:
    red, green, blue = (
        max(0, min(255, c + rng.randint(-SCATTER, SCATTER))) for c in rng.choice(COLOURS[name])
    )
    return red, green, blue


def _corners(shape: str, radius: float, turn: float) -> list[tuple[float, float]]:
    if shape == "square":
        polar = [(radius, 45 + 90 * k) for k in range(4)]
    elif shape == "triangle":
        polar = [(radius, -90 + 120 * k) for k in range(3)]
    elif shape == "star":
        polar = [(radius * (1.0 if k % 2 == 0 else 0.42), -90 + 36 * k) for k in range(10)]
    else:  # a cross: arms a third as thick as long
        arm, thin = radius * 0.96, radius * 0.3
        flat = [(thin, arm), (thin, thin), (arm, thin), (arm, -thin), (thin, -thin), (thin, -arm)]
        flat += [(-x, -y) for x, y in flat]
        polar = [(math.hypot(x, y), math.degrees(math.atan2(y, x))) for x, y in flat]
    return [
        (r * math.cos(math.radians(a + turn)), r * math.sin(math.radians(a + turn)))
        for r, a in polar
    ]


def _turned(rng: random.Random, shape: str) -> float:
    if rng.random() < 0.5:
        return 0.0
    if shape == "triangle" and rng.random() < 0.3:
        return 180.0
    return rng.uniform(-12, 12)


def draw(
    rng: random.Random, shape: str, colour: str, ground: str
) -> tuple[Image.Image, Image.Image]:
    """Draw the shape somewhere, in some size, at some resolution, with soft or hard edges.

    Returns the picture and a mask that is white where the shape is.
    """
    width = int(2 ** rng.uniform(6, 9))
    height = width if rng.random() < 0.7 else max(64, min(512, int(width * rng.uniform(0.6, 1.6))))
    finer = 2 if width * height < 200 * 200 and rng.random() < 0.6 else 1
    side = min(width, height)
    radius = side * rng.uniform(0.2, 0.46)
    if shape == "square":
        radius = min(radius * 1.15, side * 0.6)
    reach = radius * (0.78 if shape == "square" else 1.0) + 1
    x = rng.uniform(reach, width - reach) if width > 2 * reach else width / 2
    y = rng.uniform(reach, height - reach) if height > 2 * reach else height / 2
    if rng.random() < 0.3:
        x, y = width / 2, height / 2
    image = Image.new("RGB", (width * finer, height * finer), _scattered(rng, ground))
    mask = Image.new("L", image.size)
    fill = _scattered(rng, colour)
    turn = 0.0 if shape == "circle" else _turned(rng, shape)
    for pen, ink in ((ImageDraw.Draw(image), fill), (ImageDraw.Draw(mask), 255)):
        if shape == "circle":
            corners = (x - radius, y - radius, x + radius, y + radius)
            pen.ellipse([edge * finer for edge in corners], fill=ink)
        else:
            corners = _corners(shape, radius, turn)
            pen.polygon([((x + dx) * finer, (y + dy) * finer) for dx, dy in corners], fill=ink)
    if finer > 1:
        image = image.resize((width, height), Image.Resampling.BOX)
        mask = mask.resize((width, height), Image.Resampling.BOX)
    if rng.random() < 0.08:
        image = image.filter(ImageFilter.GaussianBlur(side / 128))
    return image, mask


def picture(rng: random.Random) -> Picture:
    """A random picture."""
    colour, ground = rng.sample(sorted(COLOURS), 2)
    shape = rng.choice(SHAPES)
    image, mask = draw(rng, shape, colour, ground)
    return Picture(image, colour, shape, ground, mask)


def as_jpeg(rng: random.Random, image: Image.Image) -> bytes:
    """The picture as JPEG of some quality."""
    buffer = io.BytesIO()
    image.save(buffer, "JPEG", quality=rng.randint(60, 95))
    return buffer.getvalue()


def as_file(rng: random.Random, image: Image.Image) -> tuple[str, bytes]:
    """The picture as PNG or JPEG: its media type and its bytes."""
    if rng.random() < JPEG_SHARE:
        return "image/jpeg", as_jpeg(rng, image)
    buffer = io.BytesIO()
    image.save(buffer, "PNG", compress_level=1)
    return "image/png", buffer.getvalue()


def data_url(media_type: str, content: bytes) -> str:
    """The file as it stands in an `image_url`."""
    return f"data:{media_type};base64,{base64.b64encode(content).decode()}"


QUESTIONS: dict[str, tuple[str, ...]] = {
    "all": (
        "What is in this picture?",
        "What is in this image?",
        "What's in this image?",
        "What is this?",
        "What do you see?",
        "Describe the image.",
        "Describe this image.",
        "Describe this image briefly.",
        "Describe the picture.",
        "What does the picture show?",
        "What is on the picture?",
        "Caption this image.",
    ),
    "colour": (
        "What colour is the shape?",
        "What color is the shape?",
        "Which colour does the shape have?",
        "What is the colour of the shape?",
        "What color is it?",
    ),
    "shape": (
        "What shape is it?",
        "What shape is this?",
        "Which shape is in the picture?",
        "Which shape do you see?",
        "Name the shape.",
    ),
    "ground": (
        "What colour is the background?",
        "What color is the background?",
        "Which colour is behind the shape?",
        "What is the background colour?",
    ),
}


def answer(kind: str, seen: Picture) -> str:
    """The right answer to a question of a kind."""
    if kind == "colour":
        return f"The shape is {seen.colour}."
    if kind == "shape":
        return f"It is {article(seen.shape)} {seen.shape}."
    if kind == "ground":
        return f"The background is {seen.ground}."
    return seen.description
