"""All layers put together: one value for each setting, and where it came from."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Final, TypeAlias

from helexa.config import document, engines, entries, servers
from helexa.config.catalogue import (
    ENTRY_SETTINGS,
    NAMED_SECTIONS,
    NAMED_SETTINGS,
    SETTINGS,
    Setting,
    default_home,
)
from helexa.config.check import conflicts
from helexa.config.node import NodeSettings, UpSettings
from helexa.config.origin import DEFAULT, ConfigRefused, Layer, Origin, Problem
from helexa.cortex.settings import (
    CortexSettings,
    FederationSettings,
    LimitsSettings,
    MeshSettings,
    OrchestratorSettings,
    ResponsesSettings,
    SurvivalSettings,
)
from helexa.neuron.settings import NeuronSettings

OTHER_VARIABLES: Final = frozenset({"HELEXA_CONFIG", "HELEXA_DEBUG"})
"""Read by the command itself; they are no settings."""
OF_TESTS: Final = "HELEXA_TEST_"
"""Begins the names of what steers the test suite, whose children are real nodes."""

Flags: TypeAlias = Mapping[str, tuple[str, str | Sequence[str]]]
"""Setting key -> (flag as written, its text or texts)."""


@dataclass(frozen=True, slots=True)
class Value:
    """One setting's final value. `setting.default` says nothing about it; `origin` does."""

    setting: Setting
    value: Any
    origin: Origin


@dataclass(frozen=True, slots=True)
class Config:
    node: NodeSettings
    cortex: CortexSettings
    neuron: NeuronSettings
    up: UpSettings
    values: Mapping[str, Value]
    """By key, in the catalogue's order; of tables with names and of `[[models]]` what was given."""
    file: Path | None
    listed: tuple[Origin, ...]
    """Of each of `cortex.models`."""
    stamp: object
    """Of the file, as it looked before it was read."""
    again: Callable[[], Config]
    """`load` with what it was given. Raises ConfigRefused."""

    def origin(self, key: str) -> Origin:
        return self.values[key].origin


def load(
    flags: Flags,
    environment: Mapping[str, str],
    *,
    file: Path | None = None,
    roles: Collection[str] = (),
) -> Config:
    """Settings for a command that starts `roles` (of cortex, neuron, up; none for a mere client).

    Raises ConfigRefused with every problem found.
    """
    if file is None and environment.get("HELEXA_CONFIG"):
        file = Path(environment["HELEXA_CONFIG"])
    if file is not None:
        file = file.absolute()
    stamp = stamp_of(file)
    given = document.read(file) if file is not None else document.Given()
    problems = list(given.problems)
    problems += _unknown_variables(environment)
    problems += [
        Problem(Origin(Layer.FLAG, flag), key, document.unknown(key))
        for key, (flag, _) in flags.items()
        if key not in SETTINGS
    ]
    reader = _Reader(given, flags, environment, file, problems)
    values = {key: reader.value_of(setting) for key, setting in SETTINGS.items()}
    named = {
        section: {name: reader.table(section, name) for name in tables}
        for section, tables in given.named.items()
    }
    for section, tables in named.items():
        for name, table in tables.items():
            values |= {f"{section}.{name}.{key}": value for key, value in table.items()}
    listed = reader.entries()
    values |= {
        key: Value(ENTRY_SETTINGS[name], value, origin)
        for key, name, value, origin in listed.settings
    }
    if problems:
        raise ConfigRefused(problems)
    config = _composed(
        values,
        named,
        listed,
        environment,
        file=file,
        stamp=stamp,
        again=partial(load, flags, dict(environment), file=file, roles=roles),
    )
    problems += conflicts(config.values, roles)
    problems += servers.problems(config.neuron, given.where, roles)
    problems += engines.problems(config.neuron, config.values, given.where, roles)
    if problems:
        raise ConfigRefused(problems)
    return config


def stamp_of(file: Path | None) -> object:
    """How a file looks: another value once somebody changed it, or put another in its place."""
    if file is None:
        return None
    try:
        found = file.stat()
    except OSError:
        return None
    return (found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns, found.st_ctime_ns)


class _Reader:
    """Judges the value that each layer gives, and takes the last."""

    def __init__(
        self,
        given: document.Given,
        flags: Flags,
        environment: Mapping[str, str],
        file: Path | None,
        problems: list[Problem],
    ) -> None:
        self._given = given
        self._flags = flags
        self._environment = environment
        self._folder = file.absolute().parent if file is not None else Path.cwd()
        self._problems = problems

    def value_of(self, setting: Setting) -> Value:
        found = Value(setting, setting.default, DEFAULT)
        if setting.key in self._given.values:
            raw, origin = self._given.values[setting.key]
            found = self._toml(setting, raw, origin) or found
        text = self._environment.get(setting.variable)
        if text is not None:
            origin = Origin(Layer.ENVIRONMENT, setting.variable)
            found = self._text(setting, text, origin) or found
        if setting.key in self._flags:
            flag, texts = self._flags[setting.key]
            found = self._text(setting, texts, Origin(Layer.FLAG, flag)) or found
        return found

    def table(self, section: str, name: str) -> dict[str, Value]:
        raw_values = self._given.named[section][name]
        found = {}
        for key, setting in NAMED_SETTINGS[section].items():
            if key in raw_values:
                value = self._toml(setting, *raw_values[key], f"{section}.{name}.{key}")
                if value is not None:
                    found[key] = value
        return found

    def entries(self) -> entries.Entries:
        if self._given.entries is None:
            return entries.Entries()
        found = entries.read(self._given.entries, self._given.where, self._folder)
        self._problems += found.problems
        return found

    def _toml(self, setting: Setting, raw: Any, origin: Origin, key: str = "") -> Value | None:
        try:
            return Value(setting, setting.kind.from_toml(raw, self._folder), origin)
        except ValueError as error:
            self._refuse(setting, origin, key or setting.key, error)
        return None

    def _text(self, setting: Setting, texts: str | Sequence[str], origin: Origin) -> Value | None:
        here = Path.cwd()
        try:
            if isinstance(texts, str):
                return Value(setting, setting.kind.from_text(texts, here), origin)
            parts = [part for text in texts for part in setting.kind.from_text(text, here)]
            return Value(setting, tuple(parts), origin)
        except ValueError as error:
            self._refuse(setting, origin, setting.key, error)
        return None

    def _refuse(self, setting: Setting, origin: Origin, key: str, error: ValueError) -> None:
        message = f"{error}; accepted: {setting.kind.words}"
        self._problems.append(Problem(origin, key, message))


def _unknown_variables(environment: Mapping[str, str]) -> list[Problem]:
    known = {one.variable for one in SETTINGS.values()} | OTHER_VARIABLES
    problems = []
    for name in sorted(environment):
        if name.startswith("HELEXA_") and not name.startswith(OF_TESTS) and name not in known:
            near = document.closest(name, known)
            hint = f"; did you mean {near}?" if near else ""
            origin = Origin(Layer.ENVIRONMENT, name)
            problems.append(Problem(origin, "", f"is not a setting's variable{hint}"))
    return problems


def _composed(
    values: dict[str, Value],
    named: Mapping[str, Mapping[str, Mapping[str, Value]]],
    listed: entries.Entries,
    environment: Mapping[str, str],
    *,
    file: Path | None,
    stamp: object,
    again: Callable[[], Config],
) -> Config:
    """The parts' own settings, with what one setting derives from another filled in."""

    def of(section: str) -> dict[str, Any]:
        return {
            value.setting.name: value.value
            for value in values.values()
            if value.setting.section == section
        }

    def derive(key: str, value: Path) -> Path:
        if values[key].value is None:
            values[key] = Value(SETTINGS[key], value, DEFAULT)
        return Path(values[key].value)

    home = derive("home", default_home(environment))
    derive("neuron.models_dir", home / "models")
    of_names: dict[str, Any] = {
        section.rpartition(".")[2]: {
            name: struct(**{key: value.value for key, value in table.items()})
            for name, table in named.get(section, {}).items()
        }
        for section, struct in NAMED_SECTIONS.items()
    }
    return Config(
        node=NodeSettings(**of("")),
        cortex=CortexSettings(
            home=home / "cortex",
            mesh=MeshSettings(**of("mesh")),
            federation=FederationSettings(**of("federation")),
            orchestrator=OrchestratorSettings(**of("orchestrator")),
            responses=ResponsesSettings(**of("responses")),
            survival=SurvivalSettings(**of("survival")),
            limits=LimitsSettings(**of("limits")),
            models=listed.entries,
            **of("cortex"),
        ),
        neuron=NeuronSettings(home=home / "neuron", **of_names, **of("neuron")),
        up=UpSettings(**of("up")),
        values=values,
        file=file,
        listed=listed.origins,
        stamp=stamp,
        again=again,
    )
