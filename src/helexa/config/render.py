"""The catalogue as files for people: helexa.example.toml and docs/settings.md."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from textwrap import wrap
from typing import Any, Final

from helexa.config.catalogue import (
    ENTRY_SECTION,
    ENTRY_SETTINGS,
    NAMED_SECTIONS,
    NAMED_SETTINGS,
    SETTINGS,
    Setting,
)
from helexa.config.load import Value

SECTION_WORDS: Final = {
    "": "What every node has.",
    "cortex": "The control plane, `helexa cortex`.",
    "mesh": "How a cortex finds other nodes and whom it lets in.",
    "federation": "What a cortex serves for other operators, and what it asks of them. The "
    "lists hold patterns: * and ? stand for any characters and any one; with a leading ! what "
    "matches is out, and that beats the others; an empty list, or one of ! alone, takes the rest.",
    "orchestrator": "Where a cortex has models loaded, and when.",
    "responses": "What a gateway keeps of responses for the clients that asked for them, see "
    "docs/responses.md.",
    "survival": "What becomes of a request whose node fails, see docs/continuation.md.",
    "limits": "Who may ask a gateway how much, and whose turn it is; see docs/limits.md. 0 sets no "
    "limit. What a key or an account says for itself (`helexa keys set`) beats the first seven.",
    ENTRY_SECTION: "The catalogue: one such table for each model that may be served, see "
    "docs/catalogue.md. Any number of them; a change is in force without a restart.",
    "neuron": "The data plane, `helexa neuron`.",
    "neuron.models": "How one model is served; NAME is the model's name, quoted if it has dots.",
    "neuron.runtimes": "Where an engine is; NAME is the runtime's name. See docs/runtimes.",
    "neuron.servers": "An OpenAI-compatible server whose models this neuron serves, too: one that "
    "runs already, or a command that starts one. NAME is yours. See docs/runtimes.",
    "up": "Both on one machine, `helexa up`. It takes the rest from [cortex] and [neuron].",
}
EXAMPLE_NAMES: Final = {
    "neuron.models": "helexa-demo",
    "neuron.runtimes": "llama_cpp",
    "neuron.servers": "ollama",
}
MARK: Final = "#"
"""Directly before a setting that is switched off; prose has a space after it."""


def example() -> str:
    """A complete file: every setting with its default, none of them switched on."""
    lines = [
        "# Every setting of helexa, with its default. Take the # away from what you change.",
        "# Environment variables and flags win over this file; `helexa config show --origin`",
        "# says which value is in force and where it came from.",
    ]
    for section, words in SECTION_WORDS.items():
        lines += ["", *_header(section), *(f"# {line}" for line in wrap(words, 96))]
        for setting in _of(section):
            lines += ["", *_prose(setting), f"{MARK}{setting.name} = {_written(setting)}"]
    return "\n".join(lines) + "\n"


def reference() -> str:
    """docs/settings.md: a table a section, a row a setting."""
    lines = [
        "# Settings",
        "",
        "Made by `helexa config reference`; do not edit it by hand.",
        "",
        "A value is taken from the last of these that gives one: the default, the TOML file",
        "(`--config FILE` or `HELEXA_CONFIG`), the environment, a flag. `--set KEY=VALUE` is a",
        "flag for any setting. `helexa config show --origin` says which value is in force and",
        "where it came from. A node refuses to start on a key that it does not know, a value of",
        "the wrong type or out of range, and two roles on one socket.",
    ]
    for section, words in SECTION_WORDS.items():
        title = _TITLES.get(section)
        lines += [
            "",
            f"## {title or f'[{section}]'}",
            "",
            words,
            "",
            "| setting | meaning | accepted | default | flag | variable |",
            "|---|---|---|---|---|---|",
            *(_row(setting) for setting in _of(section)),
        ]
    return "\n".join(lines) + "\n"


def shown(values: Iterable[tuple[str, Value]]) -> Iterator[tuple[str, str, str]]:
    """(key, value as TOML, origin) of values in force."""
    for key, found in values:
        text = "" if found.value is None else found.setting.kind.to_toml(found.value)
        yield key, text, str(found.origin)


_TITLES: Final = {
    "": "Top level",
    ENTRY_SECTION: f"[[{ENTRY_SECTION}]]",
    **{section: f"[{section}.NAME]" for section in NAMED_SECTIONS},
}


def _header(section: str) -> list[str]:
    if section == ENTRY_SECTION:
        # Switched off like its settings: a table without an id is no model.
        return [f"{MARK}[[{section}]]"]
    if section in NAMED_SECTIONS and section != "neuron.models":
        # A runtime that is named is set up, a server that is named is asked: neither by default.
        return [f"{MARK}[{section}.{EXAMPLE_NAMES[section]}]"]
    title = f"{section}.{EXAMPLE_NAMES[section]}" if section in NAMED_SECTIONS else section
    return [f"[{title}]"] if title else []


def _of(section: str) -> list[Setting]:
    if section == ENTRY_SECTION:
        return list(ENTRY_SETTINGS.values())
    if section in NAMED_SECTIONS:
        return list(NAMED_SETTINGS[section].values())
    return [one for one in SETTINGS.values() if one.section == section]


def _prose(setting: Setting) -> list[str]:
    accepted = f"Accepted: {setting.kind.words}."
    if setting.default_words:
        accepted += f" Default: {setting.default_words}."
    return [f"# {line}" for text in (setting.help, accepted) for line in wrap(text, 96)]


def _written(setting: Setting) -> str:
    """The default as TOML; where nothing is the default, an example."""
    if setting.key == "home":
        return '"/var/lib/helexa"'
    if setting.key == "neuron.models_dir":
        return '"/var/lib/helexa/models"'
    value = setting.default
    of_tables = setting.section == ENTRY_SECTION or setting.section in NAMED_SECTIONS
    nothing: tuple[Any, ...] = (None, (), "", {}) if of_tables else (None, ())
    if value in nothing and setting.example is not None:
        value = setting.example
    return setting.kind.to_toml(value)


def _row(setting: Setting) -> str:
    default = setting.default_words
    if not default and setting.default is not None:
        default = f"`{setting.kind.to_toml(setting.default)}`"
    flag = f"`{setting.flag}`" if setting.flag else ""
    variable = f"`{setting.variable}`" if setting.variable else ""
    cells = (
        f"`{setting.name}`",
        setting.help,
        setting.kind.words,
        default,
        flag,
        variable,
    )
    return "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |"
