"""How a database of an older helexa becomes one of this: statements by the schema they lead to.

A step stays as it was written: databases of its time are still about. What it leads to is the
same as a new database of that schema, column by column.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final

STEPS: Final[Mapping[int, Sequence[str]]] = {
    2: (
        "ALTER TABLE api_keys ADD COLUMN expires_at BIGINT",
        "ALTER TABLE api_keys ADD COLUMN limits TEXT",
        """CREATE TABLE accounts (
            name TEXT NOT NULL, limits TEXT, created_at BIGINT NOT NULL, PRIMARY KEY (name)
        )""",
    ),
}
