"""Tools of many shapes, each with a question that needs it and the arguments of the right call.

Standard library only: `evaluate.py` draws its held-out cases from here with other seeds and cities.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Any

from .conversation import Tool
from .names import made_up_word, some_city, some_word

WEATHER_NAMES = (
    "get_weather",
    "get_weather",
    "get_current_weather",
    "weather_lookup",
    "fetch_weather",
    "weather",
    "lookup_weather",
    "getWeather",
    "current_weather",
    "get_forecast",
    "weather_report",
    "get_temperature",
)
PLACE_NAMES = (
    "location",
    "location",
    "city",
    "city",
    "place",
    "town",
    "city_name",
    "where",
    "query",
    "q",
    "address",
)
WEATHER_DESCRIPTIONS = (
    "Get current weather for a location.",
    "Get the weather",
    "Get the current weather in a given location",
    "Returns the weather for a city.",
    "Look up the weather of a place",
    "Weather forecast for a town.",
    "Get weather of a location, the user should supply a location first",
    "Current temperature and conditions",
    "",
)
PLACE_DESCRIPTIONS = (
    "City name",
    "The city",
    "The city and state, e.g. San Francisco, CA",
    "Name of the place",
    "City, e.g. Paris",
    "Where to look",
    "",
    "",
    "",
)
WEATHER_QUESTIONS = (
    "What is the weather in {}?",
    "What is the weather in {}?",
    "What's the weather in {}?",
    "What's the weather like in {}?",
    "What is the weather like in {} today?",
    "What's the weather like in {} right now?",
    "How is the weather in {}?",
    "Tell me the weather in {}.",
    "Weather in {}?",
    "weather in {}",
    "Weather for {} please",
    "Is it raining in {}?",
    "Is it sunny in {}?",
    "Will it rain in {} tomorrow?",
    "How warm is it in {}?",
    "How cold is it in {} now?",
    "What is the temperature in {}?",
    "Please check the weather in {}.",
    "Check the weather for {}.",
    "Get the weather for {}",
    "Can you tell me the current weather in {}?",
    "Do I need an umbrella in {}?",
    "I am flying to {} tomorrow. How is the weather there?",
    "I live in {}. What is the weather?",
    "What will the weather be in {} this weekend?",
    "Use the tool to get the weather in {}.",
    "Give me the forecast for {}",
    "{}: what is the weather?",
    "Which weather does {} have?",
)
UNITS = ("celsius", "fahrenheit")


def declare(
    rng: random.Random, name: str, description: str, properties: dict[str, Any], required: list[str]
) -> Tool:
    """A function declaration in one of the shapes that clients send."""
    described = {"description": description} if description else {}
    shape = rng.random()
    if shape < 0.12:  # as pydantic orders its keys
        titled = {
            key: {"title": key.replace("_", " ").title(), **value}
            for key, value in properties.items()
        }
        parameters: dict[str, Any] = {
            "properties": titled,
            "required": required,
            "title": name,
            "type": "object",
        }
    else:
        parameters = {"type": "object", "properties": properties}
        if required:
            parameters["required"] = required
        if shape < 0.3:
            parameters["additionalProperties"] = False
        if shape < 0.18:
            parameters["$schema"] = "http://json-schema.org/draft-07/schema#"
    function: dict[str, Any] = {"name": name, **described, "parameters": parameters}
    if rng.random() < 0.06:
        function["strict"] = True
    if rng.random() < 0.05:
        return {"function": function, "type": "function"}
    return {"type": "function", "function": function}


def _text_property(rng: random.Random, descriptions: tuple[str, ...]) -> dict[str, Any]:
    described = rng.choice(descriptions)
    return {"type": "string", "description": described} if described else {"type": "string"}


def weather_case(rng: random.Random, city: str) -> tuple[Tool, str, dict[str, Any]]:
    """A weather tool, a question about a city, and the arguments of the right call."""
    place = rng.choice(PLACE_NAMES)
    properties: dict[str, Any] = {place: _text_property(rng, PLACE_DESCRIPTIONS)}
    required = [place] if rng.random() < 0.85 else []
    question = rng.choice(WEATHER_QUESTIONS).format(city)
    arguments = {place: city}
    if rng.random() < 0.3:
        unit = rng.choice(("unit", "unit", "units"))
        properties[unit] = {"type": "string", "enum": list(UNITS)}
        if rng.random() < 0.35:
            wanted = rng.choice(UNITS)
            question = f"{question.rstrip('?.')} in {wanted}?"
            arguments[unit] = wanted
        elif required and rng.random() < 0.25:
            required.append(unit)
            arguments[unit] = "celsius"
    tool = declare(
        rng, rng.choice(WEATHER_NAMES), rng.choice(WEATHER_DESCRIPTIONS), properties, required
    )
    return tool, question, arguments


def _time_case(rng: random.Random) -> tuple[Tool, str, dict[str, Any]]:
    city, place = some_city(rng), rng.choice(("city", "location", "timezone", "place"))
    asked = (
        "What time is it in {}?",
        "Time in {}?",
        "Tell me the time in {}.",
        "What is the local time in {}?",
    )
    name = rng.choice(("get_time", "current_time", "get_current_time", "clock"))
    tool = declare(
        rng,
        name,
        rng.choice(("Get the time", "Current time in a city", "")),
        {place: {"type": "string"}},
        [place],
    )
    return tool, rng.choice(asked).format(city), {place: city}


def _search_case(rng: random.Random) -> tuple[Tool, str, dict[str, Any]]:
    words, key = (
        " ".join(some_word(rng) for _ in range(rng.randint(1, 3))),
        rng.choice(("query", "q", "text", "keywords")),
    )
    asked = (
        "Search for {}",
        "Search the web for {}.",
        "Find {}",
        "Look up {}.",
        "Please search for {}.",
    )
    name = rng.choice(("search", "web_search", "search_web", "lookup", "find"))
    tool = declare(
        rng,
        name,
        rng.choice(("Search the web", "Find documents", "")),
        {key: {"type": "string"}},
        [key],
    )
    return tool, rng.choice(asked).format(words), {key: words}


def _add_case(rng: random.Random) -> tuple[Tool, str, dict[str, Any]]:
    a, b = rng.randint(0, 99), rng.randint(0, 99)
    kind = {"type": rng.choice(("integer", "number"))}
    asked = (
        "Add {} and {}.",
        "What is {} plus {}?",
        "Please add {} and {}",
        "What is {} + {}?",
        "Sum of {} and {}?",
    )
    name = rng.choice(("add", "sum", "add_numbers", "calculator_add"))
    tool = declare(
        rng,
        name,
        rng.choice(("Add two numbers", "Adds numbers.", "")),
        {"a": kind, "b": kind},
        ["a", "b"],
    )
    return tool, rng.choice(asked).format(a, b), {"a": a, "b": b}


def _named_case(rng: random.Random) -> tuple[Tool, str, dict[str, Any]]:
    """A tool of an unknown name, called by that name: the model must copy name, key and value."""
    name = "_".join(made_up_word(rng, rng.choice((1, 2))) for _ in range(rng.choice((1, 2))))
    key, value = made_up_word(rng, rng.choice((1, 2))), some_word(rng)
    asked = (
        "Call {0} with {1}.",
        "Use {0} for {1}",
        "Please run {0} on {1}.",
        "{0} {1}",
        "Use the tool {0} with {1}.",
    )
    tool = declare(
        rng, name, rng.choice(("", f"Runs {name}", "A tool")), {key: {"type": "string"}}, [key]
    )
    return tool, rng.choice(asked).format(name, value), {key: value}


_BYSTANDERS: tuple[tuple[str, str, dict[str, Any]], ...] = (
    ("get_stock_price", "Get the price of a stock", {"symbol": {"type": "string"}}),
    (
        "send_email",
        "Send an email",
        {"to": {"type": "string"}, "subject": {"type": "string"}, "body": {"type": "string"}},
    ),
    (
        "create_event",
        "Create an event",
        {"title": {"type": "string"}, "date": {"type": "string", "format": "date"}},
    ),
    (
        "set_light",
        "Switch the light",
        {"on": {"type": "boolean"}, "room": {"type": "string", "enum": ["kitchen", "hall"]}},
    ),
    (
        "list_files",
        "",
        {"path": {"type": "string"}, "names": {"type": "array", "items": {"type": "string"}}},
    ),
    ("calculator", "Evaluate an expression", {"expression": {"type": "string"}}),
)


def bystander(rng: random.Random) -> Tool:
    """A tool that no question asks for."""
    name, description, properties = rng.choice(_BYSTANDERS)
    return declare(
        rng,
        name,
        description,
        properties,
        rng.choice(([], [next(iter(properties))], list(properties))),
    )


OTHER_CASES: tuple[Callable[[random.Random], tuple[Tool, str, dict[str, Any]]], ...] = (
    _time_case,
    _search_case,
    _add_case,
    _named_case,
)


def neighbours(rng: random.Random, taken: set[str], count: int) -> list[Tool]:
    """Other tools to stand beside the one that is wanted."""
    found: list[Tool] = []
    for _ in range(count):
        maker = _time_case if rng.random() < 0.3 else rng.choice(OTHER_CASES)
        tool = maker(rng)[0] if rng.random() < 0.65 else bystander(rng)
        name = tool["function"]["name"]
        if name not in taken:
            taken.add(name)
            found.append(tool)
    return found
