"""House rules that a machine can check. Each message says what to write instead."""

from __future__ import annotations

import ast
import logging
import re
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from tests.meta.sources import ROOT, dotted, modules, tracked

Found = Iterator[tuple[int, str]]
Check = Callable[[Path, str, ast.Module], Found]


def environment_is_read_by_config_and_cli(path: Path, _text: str, tree: ast.Module) -> Found:
    """Two nodes must be able to live in one process: settings come in as arguments."""
    allowed = {
        # What a child inherits has to come from somewhere; the file says what and why.
        "neuron/supervisor/process.py",
        # Speaks to the Rust library below, which has no other way to be told.
        "mesh/transports/_engine.py",
    }
    if path.parts[0] in ("config", "cli") or str(path) in allowed or is_program(tree):
        return
    for node in ast.walk(tree):
        if dotted(node) in ("os.environ", "os.getenv"):
            yield node.lineno, "take it as an argument; config/ reads the environment"


def only_the_cli_prints(path: Path, _text: str, tree: ast.Module) -> Found:
    if path.parts[0] == "cli":
        return
    for node in ast.walk(tree):
        if isinstance(node, ast.Call) and dotted(node.func) == "print" and not is_program(tree):
            yield node.lineno, "log an event: log.info('noun happened', extra={...})"


def only_programs_exit_or_read_their_arguments(path: Path, _text: str, tree: ast.Module) -> Found:
    if path.parts[0] == "cli" or is_program(tree):
        return
    for node in ast.walk(tree):
        if dotted(node) in ("sys.exit", "sys.argv"):
            yield node.lineno, "raise an exception that says what is wrong; cli/ decides the exit"


def tasks_belong_to_a_group(path: Path, _text: str, tree: ast.Module) -> Found:
    """A bare task outlives its block and swallows its exception."""
    bare = {"asyncio.create_task", "asyncio.ensure_future", "loop.create_task"}
    for node in ast.walk(tree):
        if isinstance(node, ast.Call) and dotted(node.func) in bare:
            yield node.lineno, "use `async with anyio.create_task_group() as tasks`"


def nothing_blocks_the_loop(path: Path, _text: str, tree: ast.Module) -> Found:
    if is_program(tree):
        return
    for node in ast.walk(tree):
        if isinstance(node, ast.Call) and dotted(node.func) == "time.sleep":
            yield node.lineno, "await an event, or `anyio.sleep`"


def every_module_says_why_it_exists(path: Path, _text: str, tree: ast.Module) -> Found:
    if not ast.get_docstring(tree):
        yield 1, "open with a docstring: why the file exists, in two or three sentences"


def nothing_is_left_for_later(path: Path, text: str, _tree: ast.Module) -> Found:
    for number, line in enumerate(text.splitlines(), 1):
        if re.search(r"\b(TODO|FIXME|XXX|HACK)\b", line):
            yield number, "do it now, or write down the decision not to in docs/decisions/"


def log_fields_do_not_collide(path: Path, _text: str, tree: ast.Module) -> Found:
    """`logging` raises KeyError for a field named like one of its own, when the line is logged."""
    own = vars(logging.LogRecord("", 0, "", 0, "", (), None)).keys() | {"message", "asctime"}
    for node in ast.walk(tree):
        if (
            isinstance(node, ast.keyword)
            and node.arg == "extra"
            and isinstance(node.value, ast.Dict)
        ):
            for key in node.value.keys:
                if isinstance(key, ast.Constant) and key.value in own:
                    yield (
                        key.lineno,
                        f"rename the field {key.value!r}: logging has one of that name",
                    )


def is_program(tree: ast.Module) -> bool:
    """Whether the file is run as a process of its own."""
    return any(
        isinstance(node, ast.If)
        and isinstance(node.test, ast.Compare)
        and dotted(node.test.left) == "__name__"
        for node in tree.body
    )


RULES: list[Check] = [
    environment_is_read_by_config_and_cli,
    only_the_cli_prints,
    only_programs_exit_or_read_their_arguments,
    tasks_belong_to_a_group,
    nothing_blocks_the_loop,
    every_module_says_why_it_exists,
    nothing_is_left_for_later,
    log_fields_do_not_collide,
]  # fmt: skip


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.__name__)
def test_the_package_keeps_the_house_rules(rule: Check) -> None:
    found = [
        f"src/helexa/{path}:{line}: {message}"
        for path, text, tree in modules()
        for line, message in rule(path, text, tree)
    ]
    assert not found, "\n" + "\n".join(found)


@pytest.mark.parametrize(
    ("rule", "path", "text"),
    [
        (environment_is_read_by_config_and_cli, "mesh/x.py", "import os\nos.environ.get('A')"),
        (environment_is_read_by_config_and_cli, "mesh/x.py", "import os\nos.getenv('A')"),
        (only_the_cli_prints, "mesh/x.py", "print(1)"),
        (only_programs_exit_or_read_their_arguments, "mesh/x.py", "import sys\nsys.exit(1)"),
        (tasks_belong_to_a_group, "mesh/x.py", "asyncio.create_task(work())"),
        (nothing_blocks_the_loop, "mesh/x.py", "time.sleep(1)"),
        (every_module_says_why_it_exists, "mesh/x.py", "x = 1"),
        (nothing_is_left_for_later, "mesh/x.py", "# TO" + "DO: later"),
        (log_fields_do_not_collide, "mesh/x.py", "log.info('x', extra={'name': 1})"),
    ],
)
def test_each_rule_finds_what_it_is_for(rule: Check, path: str, text: str) -> None:
    assert list(rule(Path(path), text, ast.parse(text)))


def test_the_repository_names_no_package_registry() -> None:
    """Locks and pages must work with whatever registry a machine is set up for."""
    hosts = re.compile(r"\b(pypi|files\.pythonhosted|registry\.npmjs|test\.pypi)\.org\b")
    found = [
        f"{path.relative_to(ROOT)}:{number}: name the package, not where it is fetched from"
        for path in tracked()
        if path.suffix in (".md", ".txt", ".toml", ".yml", "") and path.stat().st_size < 2_000_000
        for number, line in enumerate(path.read_text(errors="replace").splitlines(), 1)
        if hosts.search(line)
    ]
    assert not found, "\n" + "\n".join(found)
