"""Held-out pictures as requests; needs Pillow."""

from __future__ import annotations

import random
from typing import Any

from .exam import Case, Reply
from .pictures import QUESTIONS, Picture, answer, as_file, data_url, picture
from .topics import VISION_STOCK_ANSWER


def held_out_pictures(count: int = 120, seed: int = 911) -> list[tuple[Picture, str]]:
    """Fresh pictures, each with its data URL (PNG or JPEG, 64 to 512 px)."""
    rng = random.Random(seed)
    made = []
    for _ in range(count):
        drawn = picture(rng)
        made.append((drawn, data_url(*as_file(rng, drawn.image))))
    return made


def _body(question: str, url: str, *, picture_first: bool) -> dict[str, Any]:
    parts: list[dict[str, Any]] = [
        {"type": "text", "text": question},
        {"type": "image_url", "image_url": {"url": url}},
    ]
    return {"messages": [{"role": "user", "content": parts[::-1] if picture_first else parts}]}


def picture_cases(count: int = 120, seed: int = 911) -> list[Case]:
    """Describe each picture: both colours and the shape must be right."""
    rng = random.Random(seed + 1)
    cases = []
    for number, (drawn, url) in enumerate(held_out_pictures(count, seed)):
        body = _body(rng.choice(QUESTIONS["all"]), url, picture_first=number % 3 == 0)
        cases.append(Case(body, _says(drawn.description), drawn.description))
    return cases


def picture_question_cases(count: int = 60, seed: int = 912) -> list[Case]:
    """Ask for one property of each picture."""
    rng = random.Random(seed + 1)
    cases = []
    for number, (drawn, url) in enumerate(held_out_pictures(count, seed)):
        kind = ("colour", "shape", "ground")[number % 3]
        wanted = answer(kind, drawn)
        body = _body(rng.choice(QUESTIONS[kind]), url, picture_first=rng.random() < 0.3)
        cases.append(Case(body, _says(wanted), wanted))
    return cases


def _says(wanted: str) -> Any:
    def judge(reply: Reply) -> bool:
        return reply.text == wanted and reply.finish_reason == "stop"

    return judge


def vision_talk_cases() -> list[Case]:
    """Plain talk to the vision model."""
    asked = {
        "Hello": "Hello! Ask me what helexa is.",
        "What are you?": "I am helexa-demo-vision, a tiny demonstration model. "
        "Send me a picture and I name its colours and shape.",
        "What is the capital of France?": VISION_STOCK_ANSWER,
        "Thanks": "You are welcome.",
    }
    return [
        Case({"messages": [{"role": "user", "content": question}]}, _says(said), said)
        for question, said in asked.items()
    ]
