"""Which line a key stands on, whatever TOML's ways of writing it."""

# ruff: noqa: E501 - a case reads best on one line.

from __future__ import annotations

import tomllib
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from helexa.config.lines import KeyPath, key_lines

CASES = {
    "a plain key": ("\n\nname = 1\n", {("name",): 3}),
    "a table and its key": ("[cortex]\n# remark\nname = 1\n", {("cortex",): 1, ("cortex", "name"): 3}),
    "a dotted key": ("cortex.name = 1", {("cortex",): 1, ("cortex", "name"): 1}),
    "a dotted table": ("\n[a.b]\nc = 1", {("a",): 2, ("a", "b"): 2, ("a", "b", "c"): 3}),
    "a quoted key": ('["a.b"]\n\'c d\' = 1', {("a.b",): 1, ("a.b", "c d"): 2}),
    "an escaped key": ('"\\u0061" = 1', {("a",): 1}),
    "an inline table": ("\na = { b = 1, c.d = 2 }", {("a",): 2, ("a", "b"): 2, ("a", "c"): 2, ("a", "c", "d"): 2}),
    "after an array over lines": ("a = [ # ]\n 1,\n 2,\n]\nb = 1", {("a",): 1, ("a", 0): 2, ("a", 1): 3, ("b",): 5}),
    "after a text over lines": ('a = """\nb = 1\n[c]\n"""\nd = 1', {("a",): 1, ("d",): 5}),
    "after a literal over lines": ("a = '''\nb = 1\n'''\nd = 1", {("a",): 1, ("d",): 4}),
    "after quotes in a text": ('a = "]\\"# b = 1"\nd = 1', {("a",): 1, ("d",): 2}),
    "after four closing quotes": ('a = """x""""\nd = 1', {("a",): 1, ("d",): 2}),
    "an empty text over lines": ('a = """"""\nd = 1', {("a",): 1, ("d",): 2}),
    "windows line ends": ("a = 1\r\n[b]\r\nc = 2\r\n", {("a",): 1, ("b",): 2, ("b", "c"): 3}),
    "tables in an array": ("[[a]]\nb = 1\n[[a]]\nb = 2", {("a",): 1, ("a", 0): 1, ("a", 0, "b"): 2, ("a", 1): 3, ("a", 1, "b"): 4}),
    "tables inside an array value": ("a = [{ b = 1 },\n{ c = 2 }]", {("a",): 1, ("a", 0): 1, ("a", 0, "b"): 1, ("a", 1): 2, ("a", 1, "c"): 2}),
    "a table of the last in an array": ("[[a]]\n[[ a ]]\n[a.b]\nc = 1", {("a",): 1, ("a", 0): 1, ("a", 1): 2, ("a", 1, "b"): 3, ("a", 1, "b", "c"): 4}),
    "arrays of tables in arrays": ("[[a]]\n[[a.b]]\nc = 1\n[[a.b]]\n[[a]]\n[[a.b]]\nc = 2", {("a",): 1, ("a", 0): 1, ("a", 0, "b"): 2, ("a", 0, "b", 0): 2, ("a", 0, "b", 0, "c"): 3, ("a", 0, "b", 1): 4, ("a", 1): 5, ("a", 1, "b"): 6, ("a", 1, "b", 0): 6, ("a", 1, "b", 0, "c"): 7}),
    "items of an array over lines": ("a = [ 1,\n [2,\n 3] ]", {("a",): 1, ("a", 0): 1, ("a", 1): 2, ("a", 1, 0): 2, ("a", 1, 1): 3}),
    "a date": ("a = 1979-05-27 07:32:00\nb = 1", {("a",): 1, ("b",): 2}),
}  # fmt: skip


@pytest.mark.parametrize("case", CASES)
def test_every_key_is_found_on_its_line(case: str) -> None:
    text, expected = CASES[case]
    tomllib.loads(text)
    assert key_lines(text) == expected


def paths_of(value: Any, path: KeyPath = ()) -> set[KeyPath]:
    within = value.items() if isinstance(value, dict) else ()
    within = enumerate(value) if isinstance(value, list) else within
    found: set[KeyPath] = set()
    for key, one in within:
        found |= {(*path, key)} | paths_of(one, (*path, key))
    return found


_texts = st.text(st.characters(exclude_categories=("Cs", "Cc")), max_size=8)
_scalars = st.one_of(st.integers(-9, 9), st.booleans(), _texts)


def _toml(value: Any) -> str:
    import json

    if isinstance(value, dict):
        pairs = (
            f"{json.dumps(key, ensure_ascii=False)} = {_toml(one)}" for key, one in value.items()
        )
        return "{ " + ", ".join(pairs) + " }"
    if isinstance(value, list):
        return "[\n" + ",\n".join(_toml(one) for one in value) + "\n]"
    if isinstance(value, str):
        # In TOML's basic strings DEL has to be escaped; the strategy makes no control characters.
        return json.dumps(value, ensure_ascii=False)
    return json.dumps(value)


_values = st.recursive(
    _scalars,
    lambda inner: st.one_of(
        st.lists(_scalars, max_size=3), st.dictionaries(_texts, inner, max_size=3)
    ),
    max_leaves=8,
)


@given(st.dictionaries(_texts, _values, max_size=5))
def test_exactly_the_keys_that_tomllib_reads_are_found(table: dict[str, Any]) -> None:
    def flat(value: Any) -> Any:
        """Inline tables must stay on one line, so lists inside them are left out."""
        if isinstance(value, dict):
            return {key: flat(one) for key, one in value.items() if not isinstance(one, list)}
        return value

    table = {key: flat(value) for key, value in table.items()}
    text = "\n".join(f"{_toml({key: value})[2:-2]}" for key, value in table.items())
    assert set(key_lines(text)) == paths_of(tomllib.loads(text))


_NAMES = st.sampled_from(["a", "b"])


@given(st.lists(st.tuples(st.lists(_NAMES, min_size=1, max_size=3), st.booleans()), max_size=8))
def test_tables_and_arrays_of_tables_are_found_as_tomllib_nests_them(
    headers: list[tuple[list[str], bool]],
) -> None:
    text = ""
    for number, (keys, is_array) in enumerate(headers):
        name = ".".join(keys)
        more = f"[[{name}]]\nk{number} = 1\n" if is_array else f"[{name}]\nk{number} = 1\n"
        try:
            tomllib.loads(text + more)
        except tomllib.TOMLDecodeError:
            continue
        text += more
    found = key_lines(text)
    assert set(found) == paths_of(tomllib.loads(text))
    lines = text.splitlines()
    for path, line in found.items():
        if str(path[-1]).startswith("k"):
            assert lines[line - 1] == f"{path[-1]} = 1"
