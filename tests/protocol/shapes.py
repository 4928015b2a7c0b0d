"""Hypothesis strategies for wire types, made from the types themselves."""

from __future__ import annotations

from typing import get_args

from hypothesis import strategies as st
from msgspec import inspect

from helexa.protocol.messages import Wire

MESSAGES = get_args(Wire)

# MessagePack has 64 bits; floats that compare equal to themselves.
INTEGERS = st.integers(-(2**63), 2**64 - 1)
FLOATS = st.floats(allow_nan=False)
# A lone surrogate has no UTF-8, so no peer can send one.
TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=30)


def values(kind):
    match kind:
        case inspect.StructType():
            parts = {field.name: values(field.type) for field in kind.fields}
            return st.builds(kind.cls, **parts)
        case inspect.UnionType():
            return st.one_of([values(each) for each in kind.types])
        case inspect.VarTupleType():
            return st.lists(values(kind.item_type), max_size=3).map(tuple)
        case inspect.DictType():
            return st.dictionaries(values(kind.key_type), values(kind.value_type), max_size=3)
        case inspect.EnumType():
            return st.sampled_from(list(kind.cls))
        case inspect.BoolType():
            return st.booleans()
        case inspect.IntType():
            return INTEGERS
        case inspect.FloatType():
            return FLOATS
        case inspect.StrType():
            return TEXT
        case inspect.BytesType():
            return st.binary(max_size=40)
        case inspect.NoneType():
            return st.none()
        case _:
            raise AssertionError(f"no strategy for {kind}: add one here")


def messages_of(cls):
    return values(inspect.type_info(cls))


def any_message():
    return st.one_of([messages_of(cls) for cls in MESSAGES])
