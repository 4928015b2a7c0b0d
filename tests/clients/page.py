"""docs/clients.md, of what a run of all clients told."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from tests.clients.matrix import CLIENTS, FEATURES, ROOT, Told

PAGE: Final = ROOT / "docs" / "clients.md"
_HEAD: Final = """\
# Clients

Whatever speaks to OpenAI or Anthropic speaks to a helexa gateway, given another address and a
key. `make test-clients` runs each of these, unmodified and in an environment of its own, against a
cortex and a neuron with real models, and writes this page. A cell names the APIs on which the
feature was seen to work; an empty one was not tried, or the client has no such thing.

"""
_SNIPPETS: Final = """
## Snippets

Each is run by the same command, with an address and a key that are real; `helexa keys create NAME`
makes a key, and `helexa up` prints one.
"""
_LANGUAGES: Final = {"js": "js", "python": "python", "sh": "sh"}


def write(found: Mapping[str, Told]) -> None:
    """Only a run of all clients makes the page: one of some would say too little."""
    missing = [one.name for one in CLIENTS if one.file not in found]
    assert not missing, f"the page is left as it was, since these did not pass: {missing}"
    lines = [f"| client | version | {' | '.join(FEATURES)} | checks |"]
    lines.append("| --- " * (len(FEATURES) + 3) + "|")
    for client in CLIENTS:
        told = found[client.file]
        versions = ", ".join(_version(name, told.versions) for name in told.versions)
        cells = [", ".join(told.surfaces(feature)) for feature in FEATURES]
        row = [client.name, versions, *cells, str(len(told.checks))]
        lines.append(f"| {' | '.join(row)} |")
    parts = [_HEAD, "\n".join(lines), "\n", _SNIPPETS]
    for client in CLIENTS:
        language, text = client.snippet
        parts.append(f"\n### {client.name}\n\n```{_LANGUAGES[language]}\n{text}```\n")
    PAGE.write_text("".join(parts), encoding="utf-8")


def _version(name: str, versions: Mapping[str, str]) -> str:
    return versions[name] if len(versions) == 1 else f"{name} {versions[name]}"
