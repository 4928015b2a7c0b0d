"""What `mesh/` promises to the rest: every public name of it says what it does.

Others build on these names without reading what is behind them, and a peer-to-peer
protocol has more ways to fail than a signature can say.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator
from functools import cache
from pathlib import Path

from tests.meta.sources import modules

Definition = ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef


def is_public(name: str) -> bool:
    return not name.startswith("_")


def mesh() -> Iterator[tuple[Path, ast.Module]]:
    for path, _, tree in modules():
        if path.parts[0] == "mesh" and all(is_public(part) for part in path.with_suffix("").parts):
            yield path, tree


@cache
def protocols() -> dict[str, frozenset[str]]:
    """The methods of every Protocol of the package: who implements one need not repeat it."""
    found = {}
    for _, _, tree in modules():
        for node in ast.walk(tree):
            if isinstance(node, ast.ClassDef) and any(
                isinstance(base, ast.Name) and base.id == "Protocol" for base in node.bases
            ):
                found[node.name] = frozenset(
                    each.name
                    for each in node.body
                    if isinstance(each, ast.FunctionDef | ast.AsyncFunctionDef)
                )
    return found


def implemented(kind: ast.ClassDef) -> frozenset[str]:
    """The methods of the protocols that this class fulfils: by its name, or by having them all."""
    own = {one.name for one in kind.body if isinstance(one, ast.FunctionDef | ast.AsyncFunctionDef)}
    fulfilled = [
        names
        for protocol, names in protocols().items()
        if kind.name.endswith(protocol) or (names and names <= own)
    ]
    return frozenset().union(*fulfilled)


def owed(path: Path, tree: ast.Module) -> Iterator[str]:
    for node in tree.body:
        if not isinstance(node, Definition) or not is_public(node.name):
            continue
        if not ast.get_docstring(node) and not says_enough(node):
            yield f"{path}:{node.lineno} {node.name}"
        if not isinstance(node, ast.ClassDef):
            continue
        known = frozenset() if node.name in protocols() else implemented(node)
        for method in node.body:
            if (
                isinstance(method, ast.FunctionDef | ast.AsyncFunctionDef)
                and is_public(method.name)
                and not is_setter(method)
                and method.name not in known
                and not ast.get_docstring(method)
            ):
                yield f"{path}:{method.lineno} {node.name}.{method.name}"


def says_enough(node: Definition) -> bool:
    """An error class of two lines between its siblings, or a named row of fields."""
    return isinstance(node, ast.ClassDef) and any(
        isinstance(base, ast.Name) and base.id in ("NamedTuple", "TypedDict") for base in node.bases
    )


def is_setter(method: ast.FunctionDef | ast.AsyncFunctionDef) -> bool:
    return any(
        isinstance(one, ast.Attribute) and one.attr == "setter" for one in method.decorator_list
    )


def test_every_public_name_of_the_mesh_says_what_it_does() -> None:
    paths = dict(mesh())
    assert Path("mesh/overlay.py") in paths, "the search finds the modules that exist"
    missing = [line for path, tree in paths.items() for line in owed(path, tree)]
    assert not missing, (
        "give each a docstring that says what it does, in which units, and what it raises:\n"
        + "\n".join(missing)
    )
