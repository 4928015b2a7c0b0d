"""The pages: links lead somewhere, commands exist, and nothing that people meet is unnamed."""

from __future__ import annotations

import ast
import importlib
import itertools
import pkgutil
import re
import shlex
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.meta.sources import ROOT, dotted, modules, pages

import helexa
from helexa.cli import entry
from helexa.protocol.errors import HelexaError

PAGES = pages()
FENCE = re.compile(r"^```.*?^```$", re.MULTILINE | re.DOTALL)
SHELL = re.compile(r"^```(sh|console)\n(.*?)^```", re.MULTILINE | re.DOTALL)
PATH = re.compile(r"/(v1|api/v1|helexa/v1|healthz|readyz|metrics)(/\S*)?")
LINK = re.compile(r"(?<!!)\[[^\]\n]*\]\(([^)\s]+)\)|!\[[^\]\n]*\]\(([^)\s]+)\)")


def name_of(path: Path) -> str:
    return str(path.relative_to(ROOT))


def prose(path: Path) -> str:
    return FENCE.sub("", path.read_text())


def anchors(path: Path) -> set[str]:
    """Headings as GitHub turns them into anchors."""
    found = set()
    for heading in re.findall(r"^#{1,6} (.+)$", prose(path), re.MULTILINE):
        plain = re.sub(r"[`*]", "", heading).strip().lower()
        found.add(re.sub(r"[^\w\- ]", "", plain).replace(" ", "-"))
    return found


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_every_link_inside_the_repository_leads_somewhere(page: Path) -> None:
    broken = []
    for match in LINK.finditer(prose(page)):
        target = match[1] or match[2]
        if re.match(r"[a-z]+:", target):
            continue
        file, _, anchor = target.partition("#")
        path = (page.parent / file).resolve() if file else page
        if not path.exists() or (anchor and anchor not in anchors(path)):
            broken.append(target)
    assert not broken, f"{name_of(page)} links to what is not there: {broken}"


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_a_page_has_one_title_and_no_skipped_levels(page: Path) -> None:
    levels = [len(marks) for marks in re.findall(r"^(#{1,6}) ", prose(page), re.MULTILINE)]
    assert levels.count(1) == 1, "one title a page"
    assert levels[0] == 1
    for above, below in itertools.pairwise(levels):
        assert below <= above + 1, f"a heading skips from level {above} to {below}"


def commands(page: Path) -> Iterator[str]:
    """Lines of `sh` blocks and prompts of `console` blocks, remarks taken off."""
    for kind, block in SHELL.findall(page.read_text()):
        for line in block.replace("\\\n", " ").splitlines():
            if kind == "console" and not line.startswith("$ "):
                continue
            text = line.removeprefix("$ ").split("  #")[0].strip()
            if text.startswith(("helexa ", "make ", ".venv/bin/helexa ")):
                yield text.removeprefix(".venv/bin/")


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_every_command_on_a_page_exists(page: Path) -> None:
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    for command in commands(page):
        words = shlex.split(command)
        words = words[: next((i for i, word in enumerate(words) if word[:1] in "&|>;"), len(words))]
        if words[0] == "make":
            named = {word for word in words[1:] if "=" not in word}
            assert named <= targets, f"{command!r}: the Makefile has no {named - targets}"
        elif words[1:] != ["--help"]:
            parser = entry.parser_of(words[1], entry.verb_of(words[1]))
            parser.parse_args([word for word in words[2:] if word != "--help"])


def error_kinds() -> dict[str, type[HelexaError]]:
    """Every code that a client can meet, wherever its class is written."""
    for module in pkgutil.walk_packages(helexa.__path__, "helexa."):
        if not re.search(r"__main__|\.children\.|\.testing", module.name):
            importlib.import_module(module.name)

    def below(kind: type[HelexaError]) -> Iterator[type[HelexaError]]:
        for child in kind.__subclasses__():
            if child.__module__.startswith("helexa."):
                yield child
                yield from below(child)

    return {kind.code: kind for kind in below(HelexaError)}


def test_every_error_code_has_a_row_with_its_status_and_type() -> None:
    page = (ROOT / "docs" / "errors.md").read_text()
    missing = []
    for code, kind in sorted(error_kinds().items()):
        row = f"| `{code}` | {kind.status} | `{kind.kind}` |"
        if isinstance(code, str) and row not in page:
            missing.append(row)
    assert not missing, "add to docs/errors.md:\n" + "\n".join(missing)


def served_paths() -> set[str]:
    """Paths that some app answers, from the strings in its source."""
    found = set()
    for path, _, tree in modules():
        if path.parts[0] not in ("cortex", "neuron") and str(path) != "util/health.py":
            continue
        for node in ast.walk(tree):
            value = node.value if isinstance(node, ast.Constant) else None
            if isinstance(value, str) and PATH.fullmatch(value):
                found.add(re.sub(r"\{(\w+):path\}", r"{\1}", value))
    return found


def test_every_endpoint_has_its_place_in_the_http_page() -> None:
    page = (ROOT / "docs" / "http-api.md").read_text()
    paths = served_paths()
    assert "/v1/chat/completions" in paths, "the search finds the paths that exist"
    # A string that ends with a slash is a prefix of several paths.
    ends = {path: "" if path.endswith("/") else "`" for path in paths}
    missing = sorted(path for path, end in ends.items() if f"`{path}{end}" not in page)
    assert not missing, f"docs/http-api.md does not name {missing}"


COUNTERS = ("counter", "read_counter")
GAUGES = ("gauge", "histogram", "read_gauge")


def metric_names() -> set[str]:
    found = set()
    for _, _, tree in modules():
        for node in ast.walk(tree):
            if (
                isinstance(node, ast.Call)
                and isinstance(node.func, ast.Attribute)
                and node.func.attr in COUNTERS + GAUGES
                and "metrics" in dotted(node.func.value)
                and node.args
                and isinstance(node.args[0], ast.Constant)
            ):
                suffix = "_total" if node.func.attr in COUNTERS else ""
                name = str(node.args[0].value)
                found.add(f"helexa_{name.removesuffix('_total')}{suffix}")
    return found


def test_every_metric_has_a_row_in_the_operations_page() -> None:
    page = (ROOT / "docs" / "operations.md").read_text()
    names = metric_names()
    assert "helexa_gateway_in_flight" in names, "the search finds the metrics that exist"
    missing = sorted(name for name in names if f"| `{name}` |" not in page)
    assert not missing, f"docs/operations.md does not name {missing}"
