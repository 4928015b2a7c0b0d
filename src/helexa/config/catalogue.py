"""Every setting there is: name, kind, range, default, flag, variable and what it means.

Types, bounds and defaults come from the parts' own Structs, words from `words.py`. The
flags, `helexa config show`, `helexa.example.toml` and docs/settings.md are all made from
this list, so they cannot say different things.
"""

from __future__ import annotations

import enum
import pkgutil
import types
import typing
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import msgspec
from msgspec import Meta

from helexa.config import kinds, machine_words, names, records, runtime_words
from helexa.config.node import NodeSettings, UpSettings
from helexa.config.words import WORDS
from helexa.cortex.orchestrator import policies, soundness
from helexa.cortex.settings import (
    Alias,
    CortexSettings,
    FederationSettings,
    LimitsSettings,
    MeshSettings,
    ModelEntry,
    OrchestratorSettings,
    ResponsesSettings,
    SurvivalSettings,
)
from helexa.mesh import transports
from helexa.neuron.settings import (
    SANDBOXES,
    ModelSettings,
    NeuronSettings,
    RuntimeSettings,
    ServerSettings,
)
from helexa.protocol.messages import SourceFile
from helexa.protocol.work import Price, WorkloadClass
from helexa.util import logs
from helexa.util.sockets import Address

SECTIONS: Final[Mapping[str, type[msgspec.Struct]]] = {
    "": NodeSettings,
    "cortex": CortexSettings,
    "mesh": MeshSettings,
    "federation": FederationSettings,
    "orchestrator": OrchestratorSettings,
    "responses": ResponsesSettings,
    "survival": SurvivalSettings,
    "limits": LimitsSettings,
    "neuron": NeuronSettings,
    "up": UpSettings,
}
NAMED_SECTIONS: Final[Mapping[str, type[msgspec.Struct]]] = {
    "neuron.models": ModelSettings,
    "neuron.runtimes": RuntimeSettings,
    "neuron.servers": ServerSettings,
}
"""`[neuron.models.NAME]` and the like: an operator names the tables."""
ENTRY_SECTION: Final = "models"
"""`[[models]]`: a table each model of the catalogue."""

_NOT_SET_BY_NAME: Final = {
    "cortex.home",
    "cortex.mesh",
    "cortex.federation",
    "cortex.orchestrator",
    "cortex.responses",
    "cortex.survival",
    "cortex.limits",
    "cortex.models",
    "neuron.home",
    *NAMED_SECTIONS,
}
"""Made from other settings: a role's folder lies in `home`, models have sections of their own."""

_SIZES: Final = {
    "cortex.bodies_bytes_max",
    "cortex.body_bytes_max",
    "cortex.header_bytes_max",
    "survival.resume_bytes_max",
    "survival.resume_bytes_total_max",
    "neuron.body_bytes_max",
    "neuron.image_bytes_max",
    "neuron.child_file_bytes_max",
    "neuron.disk_limit",
    "neuron.disk_reserve",
    "neuron.memory_limit",
    "neuron.memory_reserve",
    "models.memory_bytes",
    "responses.account_bytes_max",
    "responses.stored_bytes_max",
}
_CLASS: Final = names.pattern(
    "a workload class", "chat_*", tuple(one.value for one in WorkloadClass)
)
_MODEL: Final = names.pattern("a model's name", "team/*")
_PLACE: Final = names.pattern("a region", "eu-*")
_TRANSPORT: Final = kinds.Choice(transports.names())
_PROGRAM: Final = kinds.Folder("a program; a relative one starts at the file that names it")
_FILE: Final = kinds.Folder("a file; a relative one starts at the file that names it")
_FORMS: Final[Mapping[str, kinds.Kind]] = {
    "cortex.gateway_tls_cert": _FILE,
    "cortex.gateway_tls_key": _FILE,
    "neuron.models.runtime": runtime_words.RUNTIME,
    "neuron.models.server": names.SERVER,
    "neuron.models.cpus": machine_words.Cpus(),
    "neuron.runtimes.python": _PROGRAM,
    "neuron.runtimes.program": _PROGRAM,
    "neuron.servers.url": kinds.Url(),
    "neuron.servers.key_file": _FILE,
    "mesh.realm": names.REALM,
    "neuron.realm": names.REALM,
    "models.id": kinds.ModelName(),
    "models.description": names.DESCRIPTION,
    "models.source": names.SOURCE,
    "models.quantisation": names.QUANTISATION,
    "models.runtime": names.RUNTIME,
    "neuron.hub": kinds.Url(),
    "neuron.hub_token_file": _FILE,
}
_ITEMS: Final[Mapping[str, kinds.Kind]] = {
    "cortex.relays": kinds.Url(),
    "cortex.cors_origins": names.ORIGIN,
    "mesh.join": kinds.Ticket(),
    "mesh.dns": names.HOST_NAME,
    "mesh.transports": _TRANSPORT,
    "mesh.allow": names.KEY_ID,
    "mesh.deny": names.KEY_ID,
    "mesh.trust": names.KEY_ID,
    "federation.lend_classes": _CLASS,
    "federation.lend_models": _MODEL,
    "federation.lend_regions": _PLACE,
    "federation.borrow_classes": _CLASS,
    "federation.borrow_models": _MODEL,
    "federation.borrow_regions": _PLACE,
    "limits.models": _MODEL,
    "limits.anonymous_models": _MODEL,
    "neuron.transports": _TRANSPORT,
    "neuron.image_url_hosts": names.HOST_PATTERN,
    "neuron.image_url_networks": names.NETWORK,
    "neuron.relays": kinds.Url(),
    "neuron.cortexes": kinds.Ticket(),
    "neuron.preload": kinds.ModelName(),
    "neuron.models.arguments": runtime_words.ARGUMENT,
    "neuron.models.devices": machine_words.Device(),
    "neuron.runtime_order": runtime_words.RUNTIME,
    "neuron.servers.offers": runtime_words.OFFER,
    "up.models": kinds.ModelName(),
    "models.arguments": names.ARGUMENT,
    "models.regions": _PLACE,
    "models.operators": names.OPERATOR,
    "models.nodes": names.NEURON,
    "models.fallbacks": kinds.ModelName(),
}
_PRICE: Final = kinds.Number(whole=True, least=0, most=soundness.PRICE_MAX)
_RECORDS: Final[Mapping[type, records.Record]] = {
    Alias: records.Record(
        Alias,
        {
            "name": kinds.ModelName(),
            "weight": kinds.Number(whole=False, above=0, most=1_000_000),
        },
        'a name, "NAME:WEIGHT" or { name, weight }',
        records.alias,
    ),
    SourceFile: records.Record(
        SourceFile,
        {
            "name": names.FILE_NAME,
            "sha256": names.SHA256,
            "size": kinds.Size(0, soundness.FILE_BYTES_MAX),
        },
        "a name or { name, sha256, size }",
        records.file,
    ),
    Price: records.Record(
        Price,
        dict.fromkeys(Price.__struct_fields__, _PRICE),
        "{ " + ", ".join(Price.__struct_fields__) + " }",
    ),
}
_LEVELS: Final = ("nobody", "known", "trusted", "own")
_CHOICES: Final[Mapping[str, tuple[str, ...]]] = {
    "log_level": logs.LEVELS,
    "log_format": logs.FORMATS,
    "cortex.policy": tuple(
        sorted(module.name for module in pkgutil.iter_modules(policies.__path__))
    ),
    "neuron.sandbox": SANDBOXES,
    "mesh.preset": ("wan", "lan", "loopback"),
    "mesh.admission": ("open", "invite", "approve", "closed"),
    "mesh.neurons": ("open", "lan", "invite", "approve", "closed"),
    "federation.lend_to": _LEVELS,
    "federation.borrow_from": _LEVELS,
    "federation.order": ("local_first", "cheapest", "fastest"),
    "limits.lent": ("after", "beside"),
    "orchestrator.share_pieces": ("own", "trusted", "any", "nobody"),
}


@dataclass(frozen=True, slots=True)
class Setting:
    """`default` is None where nothing is the default, or where it depends on the machine."""

    section: str
    name: str
    kind: kinds.Kind
    default: Any
    help: str
    flag: str = ""
    default_words: str = ""
    example: Any = None
    off: str = ""
    """What the flag of a switch that is on by default does."""

    @property
    def key(self) -> str:
        return f"{self.section}.{self.name}" if self.section else self.name

    @property
    def variable(self) -> str:
        of_tables = self.section in NAMED_SECTIONS or self.section == ENTRY_SECTION
        return "" if of_tables else variable_of(self.key)

    @property
    def is_list(self) -> bool:
        return isinstance(self.kind, kinds.ListOf)


def variable_of(key: str) -> str:
    return "HELEXA_" + key.replace(".", "_").upper()


def default_home(environment: Mapping[str, str]) -> Path:
    """`$XDG_DATA_HOME/helexa`, which the XDG rules put under ~/.local/share when unset."""
    data = environment.get("XDG_DATA_HOME", "")
    # The XDG rules say that a relative path there is to be ignored.
    base = Path(data) if data.startswith("/") else Path.home() / ".local" / "share"
    return base / "helexa"


def _settings() -> Iterator[Setting]:
    for section, struct in SECTIONS.items():
        yield from _of_struct(section, struct)


def _of_struct(section: str, struct: type[msgspec.Struct]) -> Iterator[Setting]:
    hints = typing.get_type_hints(struct, include_extras=True)
    for field in msgspec.structs.fields(struct):
        key = f"{section}.{field.name}" if section else field.name
        if key in _NOT_SET_BY_NAME:
            continue
        words = WORDS[key]
        default = field.default
        if default is msgspec.NODEFAULT and field.default_factory is not msgspec.NODEFAULT:
            default = field.default_factory()
        yield Setting(
            section=section,
            name=field.name,
            kind=_kind_of(key, hints[field.name]),
            default=None if default is msgspec.NODEFAULT else default,
            help=words.help,
            flag=words.flag,
            default_words=words.default,
            example=words.example,
            off=words.off,
        )


def _kind_of(key: str, hint: Any) -> kinds.Kind:
    """The kind that a Struct's annotation stands for."""
    if key in _FORMS:
        return _FORMS[key]
    if key in _CHOICES:
        return kinds.Choice(_CHOICES[key])
    if typing.get_origin(hint) in (types.UnionType, typing.Union):
        (hint,) = (one for one in typing.get_args(hint) if one is not types.NoneType)
    bounds = Meta()
    if typing.get_origin(hint) is typing.Annotated:
        hint, bounds = typing.get_args(hint)
    if key in _SIZES:
        return kinds.Size(int(bounds.ge or 0), None if bounds.le is None else int(bounds.le))
    if typing.get_origin(hint) is tuple:
        return kinds.ListOf(_ITEMS.get(key) or _kind_of("", typing.get_args(hint)[0]))
    if hint in _RECORDS:
        return _RECORDS[hint]
    if isinstance(hint, type) and issubclass(hint, enum.Enum):
        return records.Member(hint)
    if hint in (int, float):
        unit = "seconds" if key.endswith("_s") else ""
        return kinds.Number(hint is int, bounds.ge, bounds.gt, bounds.le, unit)
    return _SIMPLE[hint]


_SIMPLE: Final[Mapping[Any, kinds.Kind]] = {
    str: kinds.Text(),
    bool: kinds.Switch(),
    Path: kinds.Folder(),
    Address: kinds.Socket(),
    dict[str, str]: kinds.Labels(),
}

SETTINGS: Final[Mapping[str, Setting]] = {one.key: one for one in _settings()}
NAMED_SETTINGS: Final[Mapping[str, Mapping[str, Setting]]] = {
    section: {one.name: one for one in _of_struct(section, struct)}
    for section, struct in NAMED_SECTIONS.items()
}
ENTRY_SETTINGS: Final[Mapping[str, Setting]] = {
    one.name: one for one in _of_struct(ENTRY_SECTION, ModelEntry)
}
