"""The tables of schema `iam`, for SQLAlchemy Core; the migrations make them. Times in microseconds, no names."""

from __future__ import annotations

from sqlalchemy import BigInteger, Boolean, Column, Integer, LargeBinary, MetaData, SmallInteger, Table, Text
from sqlalchemy.dialects.postgresql import UUID

metadata = MetaData(schema="iam")


def _id(name: str, *, key: bool = False, nullable: bool = False) -> Column[str]:
    return Column(name, UUID(as_uuid=False), primary_key=key, nullable=nullable)


accounts = Table(
    "accounts",
    metadata,
    _id("id", key=True),
    Column("type", SmallInteger, nullable=False),
    Column("enabled", Boolean, nullable=False),
    Column("secret_hash", Text, nullable=False),
    Column("create_us", BigInteger, nullable=False),
    # Application credentials only.
    _id("project", nullable=True),
    _id("owner", nullable=True),
    Column("expire_us", BigInteger),
)

# What an application credential may at most; fixed when it is made.
credential_grants = Table(
    "credential_grants",
    metadata,
    _id("account"),
    Column("role", Text, nullable=False),
    _id("region", nullable=True),
)

projects = Table("projects", metadata, _id("id", key=True), Column("create_us", BigInteger, nullable=False))

assignments = Table(
    "assignments",
    metadata,
    _id("id", key=True),
    _id("account"),
    Column("role", Text, nullable=False),
    # Null: the system.
    _id("project", nullable=True),
    # Null: every region.
    _id("region", nullable=True),
    Column("create_us", BigInteger, nullable=False),
)

# A line of refresh tokens that began with one login.
sessions = Table(
    "sessions",
    metadata,
    _id("id", key=True),
    _id("account"),
    _id("project", nullable=True),
    # Number of the one refresh token that works.
    Column("turn", Integer, nullable=False),
    # Key of the refresh tokens' authentication codes, sealed.
    Column("sealed_key", LargeBinary, nullable=False),
    # When its latest access token was issued.
    Column("issue_us", BigInteger, nullable=False),
    Column("expire_us", BigInteger, nullable=False),
)

signing_keys = Table(
    "signing_keys",
    metadata,
    Column("id", Text, primary_key=True),
    Column("public_jwk", Text, nullable=False),
    # Sealed; null once another key signs.
    Column("sealed_private", LargeBinary),
    Column("active_us", BigInteger, nullable=False),
    # When its last token is gone; null while it signs.
    Column("retire_us", BigInteger),
)

# What was revoked: also the way it gets to etcd when that is away at the moment.
revocations = Table(
    "revocations",
    metadata,
    Column("kind", Text, primary_key=True),
    _id("id", key=True),
    Column("before_us", BigInteger, nullable=False),
    Column("expire_us", BigInteger, nullable=False),
    Column("published", Boolean, nullable=False),
)

# Objects that are gone while the metadata service still knows their names.
removed_names = Table("removed_names", metadata, _id("id", key=True))

# First outcome of each mutating request: digest and response, sealed, because both may tell secrets.
requests = Table(
    "requests",
    metadata,
    _id("account", key=True),
    # The nil UUID: the system.
    _id("project", key=True),
    _id("request_id", key=True),
    Column("sealed_outcome", LargeBinary),
    Column("create_us", BigInteger, nullable=False),
)

# Logins that failed in a row, by whom they were for.
login_failures = Table(
    "login_failures",
    metadata,
    Column("subject", Text, primary_key=True),
    Column("failures", Integer, nullable=False),
    Column("blocked_until_us", BigInteger, nullable=False),
    Column("last_us", BigInteger, nullable=False),
)
