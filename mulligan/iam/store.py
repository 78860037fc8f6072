"""Queries on accounts, projects and assignments. What a caller may see is decided here, inside each query."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from sqlalchemy import (
    ColumnElement,
    Row,
    Select,
    Table,
    and_,
    delete,
    exists,
    false,
    func,
    or_,
    select,
    true,
    union_all,
    update,
)
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.ext.asyncio import AsyncConnection

from mulligan.caller import Caller, Grant
from mulligan.iam.errors import made_before
from mulligan.iam.model import APPLICATION_CREDENTIAL, USER, Account, Assignment
from mulligan.iam.tables import accounts, assignments, credential_grants, projects

_ACCOUNT = tuple(accounts.c)


def _visible_accounts(caller: Caller) -> ColumnElement[bool]:
    """System: all. Else: oneself, and the application credentials of the token's project."""
    if caller.system:
        return true()
    own = accounts.c.id == caller.account
    if not caller.project:
        return own
    return or_(own, and_(accounts.c.type == APPLICATION_CREDENTIAL, accounts.c.project == caller.project))


def _visible_projects(caller: Caller) -> ColumnElement[bool]:
    """System: all. Else: the token's own."""
    if caller.system:
        return true()
    return projects.c.id == caller.project if caller.project else false()


def _account(row: Row[Any] | None) -> Account | None:
    if row is None:
        return None
    return Account(
        row.id, row.type, row.enabled, row.secret_hash, row.create_us, row.project or "", row.owner or "", row.expire_us
    )


def _assignment(row: Row[Any]) -> Assignment:
    return Assignment(row.id, row.account, row.role, row.project or "", row.region or "", row.create_us)


# Accounts


async def insert_account(connection: AsyncConnection, account: Account) -> None:
    """A new account; raises AlreadyExists."""
    values = {
        "id": account.id,
        "type": account.type,
        "enabled": account.enabled,
        "secret_hash": account.secret_hash,
        "create_us": account.create_us,
        "project": account.project or None,
        "owner": account.owner or None,
        "expire_us": account.expire_us,
    }
    await _insert_new(connection, accounts, "account", values)


async def account_by_id(connection: AsyncConnection, identifier: str) -> Account | None:
    """Any account; whether a caller may know of it is not asked."""
    return _account((await connection.execute(select(*_ACCOUNT).where(accounts.c.id == identifier))).first())


async def visible_account(
    connection: AsyncConnection, caller: Caller, identifier: str, *, lock: bool = False
) -> Account | None:
    """The account if the caller may see it; `lock` keeps it as it is until the transaction ends."""
    query = select(*_ACCOUNT).where(accounts.c.id == identifier, _visible_accounts(caller))
    return _account((await connection.execute(query.with_for_update() if lock else query)).first())


async def hold_account(connection: AsyncConnection, identifier: str) -> Account | None:
    """Any account, which nobody can disable or delete until the transaction ends; nor the user who made it."""
    account = await account_by_id(connection, identifier)
    if account is None:
        return None
    # The user first: in the order in which deleting a user takes them.
    for each in filter(None, (account.owner, identifier)):
        query = select(*_ACCOUNT).where(accounts.c.id == each).with_for_update(read=True)
        account = _account((await connection.execute(query)).first())
    return account


async def lock_account(connection: AsyncConnection, identifier: str) -> Account | None:
    """Any account, which nobody can use or change until the transaction ends."""
    query = select(*_ACCOUNT).where(accounts.c.id == identifier).with_for_update()
    return _account((await connection.execute(query)).first())


async def list_accounts(connection: AsyncConnection, caller: Caller, after: str, limit: int) -> list[Account]:
    """Accounts that the caller may see, by id, after the one given."""
    query = select(*_ACCOUNT).where(_visible_accounts(caller))
    rows = await connection.execute(_page(query, accounts.c.id, after, limit))
    return [account for row in rows if (account := _account(row)) is not None]


async def set_enabled(connection: AsyncConnection, identifier: str, enabled: bool) -> None:
    """Enables or disables."""
    await connection.execute(update(accounts).where(accounts.c.id == identifier).values(enabled=enabled))


async def set_secret_hash(connection: AsyncConnection, identifier: str, secret_hash: str) -> None:
    """Another password."""
    await connection.execute(update(accounts).where(accounts.c.id == identifier).values(secret_hash=secret_hash))


async def delete_accounts(connection: AsyncConnection, identifiers: Iterable[str]) -> None:
    """Deletes accounts with all that hangs on them; the credentials of a user have to be among them or gone."""
    await connection.execute(delete(accounts).where(accounts.c.id.in_(list(identifiers))))


async def credentials_of(connection: AsyncConnection, owner: str) -> list[str]:
    """Ids of the application credentials that a user made."""
    return list((await connection.execute(select(accounts.c.id).where(accounts.c.owner == owner))).scalars())


async def count_accounts(connection: AsyncConnection) -> int:
    """How many accounts there are."""
    return int((await connection.execute(select(func.count()).select_from(accounts))).scalar_one())


async def has_administrator(connection: AsyncConnection) -> bool:
    """Whether an enabled user is admin of the whole system."""
    query = exists().where(
        assignments.c.account == accounts.c.id,
        accounts.c.enabled,
        accounts.c.type == USER,
        assignments.c.role == "admin",
        assignments.c.project.is_(None),
        assignments.c.region.is_(None),
    )
    return bool((await connection.execute(select(query))).scalar_one())


# What application credentials may


async def insert_credential_grants(connection: AsyncConnection, account: str, grants: Iterable[Grant]) -> None:
    """Fixes what a new application credential may at most."""
    rows = [{"account": account, "role": grant.role, "region": grant.region or None} for grant in grants]
    await connection.execute(insert(credential_grants), rows)


async def grants_of_credential(connection: AsyncConnection, account: str) -> list[Grant]:
    """What an application credential may at most, in its project."""
    query = select(credential_grants.c.role, credential_grants.c.region)
    rows = await connection.execute(query.where(credential_grants.c.account == account))
    return [Grant(row.role, False, row.region or "") for row in rows]


# Projects


async def insert_project(connection: AsyncConnection, identifier: str, create_us: int) -> None:
    """A new project; raises AlreadyExists."""
    await _insert_new(connection, projects, "project", {"id": identifier, "create_us": create_us})


async def visible_project(connection: AsyncConnection, caller: Caller, identifier: str) -> int | None:
    """When the project was made, if the caller may see it."""
    query = select(projects.c.create_us).where(projects.c.id == identifier, _visible_projects(caller))
    return (await connection.execute(query)).scalar()


async def list_projects(connection: AsyncConnection, caller: Caller, after: str, limit: int) -> list[tuple[str, int]]:
    """Id and time of making of the projects that the caller may see, by id, after the one given."""
    query = select(projects.c.id, projects.c.create_us).where(_visible_projects(caller))
    return [(row.id, row.create_us) for row in await connection.execute(_page(query, projects.c.id, after, limit))]


async def hold_project(connection: AsyncConnection, identifier: str, *, to_delete: bool = False) -> bool:
    """Whether there is such a project; it stays so until the transaction ends."""
    query = select(projects.c.id).where(projects.c.id == identifier)
    query = query.with_for_update() if to_delete else query.with_for_update(read=True, key_share=True)
    return (await connection.execute(query)).first() is not None


async def uses_of_project(connection: AsyncConnection, identifier: str) -> tuple[int, int]:
    """How many assignments and how many application credentials a project has."""
    of_assignments = select(func.count()).select_from(assignments).where(assignments.c.project == identifier)
    of_accounts = select(func.count()).select_from(accounts).where(accounts.c.project == identifier)
    query = select(of_assignments.scalar_subquery(), of_accounts.scalar_subquery())
    found = (await connection.execute(query)).one()
    return int(found[0]), int(found[1])


async def delete_project(connection: AsyncConnection, identifier: str) -> None:
    """Deletes a project that nothing hangs on."""
    await connection.execute(delete(projects).where(projects.c.id == identifier))


async def known_ids(connection: AsyncConnection, ids: Iterable[str]) -> set[str]:
    """Which of these are accounts or projects."""
    wanted = list(ids)
    query = union_all(
        select(accounts.c.id).where(accounts.c.id.in_(wanted)), select(projects.c.id).where(projects.c.id.in_(wanted))
    )
    return set((await connection.execute(query)).scalars())


# Assignments


async def insert_assignment(connection: AsyncConnection, assignment: Assignment) -> None:
    """A new assignment; raises AlreadyExists."""
    values = {
        "id": assignment.id,
        "account": assignment.account,
        "role": assignment.role,
        "project": assignment.project or None,
        "region": assignment.region or None,
        "create_us": assignment.create_us,
    }
    await _insert_new(connection, assignments, "assignment", values)


async def assignments_of(connection: AsyncConnection, account: str) -> list[Assignment]:
    """All roles of an account."""
    rows = await connection.execute(select(assignments).where(assignments.c.account == account))
    return [_assignment(row) for row in rows]


async def list_assignments(
    connection: AsyncConnection, account: str, project: str, after: str, limit: int
) -> list[Assignment]:
    """Assignments by id, after the one given; an empty account or project is any."""
    query = select(assignments)
    if account:
        query = query.where(assignments.c.account == account)
    if project:
        query = query.where(assignments.c.project == project)
    rows = await connection.execute(_page(query, assignments.c.id, after, limit))
    return [_assignment(row) for row in rows]


async def find_assignment(connection: AsyncConnection, identifier: str) -> Assignment | None:
    """One assignment."""
    row = (await connection.execute(select(assignments).where(assignments.c.id == identifier))).first()
    return _assignment(row) if row is not None else None


async def delete_assignment(connection: AsyncConnection, identifier: str) -> bool:
    """Deletes an assignment; False when somebody else did meanwhile."""
    query = delete(assignments).where(assignments.c.id == identifier).returning(assignments.c.id)
    return (await connection.execute(query)).first() is not None


async def _insert_new(connection: AsyncConnection, table: Table, noun: str, values: dict[str, Any]) -> None:
    """A row whose id comes from its request; AlreadyExists when that made one so long ago that it is forgotten."""
    query = insert(table).values(values).on_conflict_do_nothing(index_elements=["id"]).returning(table.c.id)
    if (await connection.execute(query)).first() is None:
        raise made_before(noun, values["id"])


def _page(query: Select[Any], column: ColumnElement[str], after: str, limit: int) -> Select[Any]:
    if after:
        query = query.where(column > after)
    return query.order_by(column).limit(limit)
