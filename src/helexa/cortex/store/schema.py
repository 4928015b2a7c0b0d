"""The tables, as SQLAlchemy Core sees them. Times are UTC seconds since 1970, as integers."""

from __future__ import annotations

from typing import Final

import sqlalchemy as sa

metadata: Final = sa.MetaData()

SCHEMA_VERSION: Final = 2
"""Of the tables as they stand here; `migrations` says how older ones become so."""

schema_versions: Final = sa.Table(
    "schema_versions",
    metadata,
    sa.Column("version", sa.Integer, primary_key=True),
    sa.Column("applied_at", sa.BigInteger, nullable=False),
)

api_keys: Final = sa.Table(
    "api_keys",
    metadata,
    sa.Column("id", sa.Text, primary_key=True),
    # SHA-256 of the whole secret: 256 random bits need no slow hash.
    sa.Column("secret_sha256", sa.LargeBinary(32), nullable=False, unique=True),
    # What a list may show: enough to recognise a key, far too little to use it.
    sa.Column("hint", sa.Text, nullable=False),
    sa.Column("name", sa.Text, nullable=False),
    sa.Column("account", sa.Text, nullable=False),
    sa.Column("created_at", sa.BigInteger, nullable=False),
    sa.Column("revoked_at", sa.BigInteger, nullable=True),
    sa.Column("expires_at", sa.BigInteger, nullable=True),
    # What the key says of its limits, as JSON; null leaves all to its account.
    sa.Column("limits", sa.Text, nullable=True),
)

accounts: Final = sa.Table(
    "accounts",
    metadata,
    # Only those that say something: a key may name an account that has no row.
    sa.Column("name", sa.Text, primary_key=True),
    sa.Column("limits", sa.Text, nullable=True),
    sa.Column("created_at", sa.BigInteger, nullable=False),
)
