"""Conversations with tools: calls, calls that the client insists on, results, no need."""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Any

from .conversation import Conversation, Message, Tool, call, tool_call_text
from .names import some_city, some_word
from .toolbox import OTHER_CASES, bystander, neighbours, weather_case


def _result_text(rng: random.Random) -> str:
    degrees, sky = (
        rng.randint(-15, 40),
        rng.choice(("sunny", "rain", "cloudy", "snow", "windy", "clear sky", "fog")),
    )
    return rng.choice(
        (
            f"{degrees} C, {sky}",
            f"{degrees} degrees and {sky}",
            f"{sky}, {degrees} C",
            f"{sky.capitalize()}, {degrees}°C",
            f"{degrees}",
            sky,
            f'{{"temperature": {degrees}, "condition": "{sky}"}}',
            f'{{"temp": {degrees}}}',
            f'{{"weather": "{sky}"}}',
            f"It is {degrees} degrees.",
            some_word(rng),
        )
    )


def _ended(text: str) -> str:
    return text if text.endswith((".", "!", "?")) else f"{text}."


def weather_answer(city: str, result: str) -> str:
    """What the model says once the weather tool has answered."""
    return _ended(f"The weather in {city}: {result}")


def _call_turns(name: str, question: str, arguments: dict[str, Any]) -> list[Message]:
    said = {"role": "assistant", "content": None, "tool_calls": [call(name, arguments)]}
    return [{"role": "user", "content": question}, said]


def tool_conversation(
    rng: random.Random, city: Callable[[random.Random], str] = some_city
) -> Conversation:
    """A question that needs a tool, the call, and in part the result and what is said of it."""
    is_weather = rng.random() < 0.66
    place = city(rng)
    tool, question, arguments = (
        weather_case(rng, place) if is_weather else rng.choice(OTHER_CASES)(rng)
    )
    name = tool["function"]["name"]
    tools = [tool, *neighbours(rng, {name}, rng.choice((0, 0, 0, 1, 1, 2)))]
    rng.shuffle(tools)
    turns = _call_turns(name, question, arguments)
    if is_weather and rng.random() < 0.06:
        other = city(rng)
        turns[0]["content"] = f"What is the weather in {place} and {other}?"
        first = {key: value for key, value in arguments.items() if value == place}
        turns[1]["tool_calls"] = [call(name, first), call(name, dict.fromkeys(first, other))]
    elif rng.random() < 0.45:
        result = (
            _result_text(rng)
            if is_weather
            else some_word(rng)
            if rng.random() < 0.5
            else str(rng.randint(0, 999))
        )
        said = weather_answer(place, result) if is_weather else _ended(f"The result is {result}")
        turns += [{"role": "tool", "content": result}, {"role": "assistant", "content": said}]
    return Conversation(turns, tools)


def _placeholder(schema: dict[str, Any]) -> object:
    if "enum" in schema:
        return schema["enum"][0]
    values = {"string": "helexa", "boolean": True, "array": ["helexa"], "object": {}}
    return values.get(schema.get("type", "string"), 1)


def forced_call(rng: random.Random, question: str) -> Conversation:
    """A call that the question does not need: the engine writes its opening for the model."""
    tools = [rng.choice(OTHER_CASES)(rng)[0] if rng.random() < 0.6 else bystander(rng)]
    tools += neighbours(rng, {tools[0]["function"]["name"]}, rng.choice((0, 0, 1)))
    function = tools[0]["function"]
    schema = function["parameters"]
    arguments = {
        key: _placeholder(value)
        for key, value in schema["properties"].items()
        if key in schema.get("required", ())
    }
    opening = '<tool_call>\n{"name": "'
    text = tool_call_text(function["name"], arguments)
    said = {"role": "assistant", "forced": opening, "content": text.removeprefix(opening)}
    return Conversation([{"role": "user", "content": question}, said], tools)


def some_tools(rng: random.Random) -> list[Tool]:
    """Tools for a question that needs none of them."""
    tool = weather_case(rng, "Paris")[0] if rng.random() < 0.7 else rng.choice(OTHER_CASES)(rng)[0]
    return [tool, *neighbours(rng, {tool["function"]["name"]}, rng.choice((0, 0, 0, 1)))]
