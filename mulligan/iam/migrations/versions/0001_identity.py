"""Accounts, projects, roles, sessions, keys, revocations, requests."""

from alembic import op

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None

STATEMENTS = (
    "CREATE TABLE iam.projects (id uuid PRIMARY KEY, create_us bigint NOT NULL)",
    """CREATE TABLE iam.accounts (
        id uuid PRIMARY KEY,
        type smallint NOT NULL CHECK (type IN (1, 2)),
        enabled boolean NOT NULL,
        secret_hash text NOT NULL,
        create_us bigint NOT NULL,
        project uuid REFERENCES iam.projects,
        owner uuid REFERENCES iam.accounts,
        expire_us bigint,
        CHECK ((type = 2) = (project IS NOT NULL AND owner IS NOT NULL)))""",
    "CREATE INDEX accounts_project ON iam.accounts (project, id) WHERE project IS NOT NULL",
    "CREATE INDEX accounts_owner ON iam.accounts (owner) WHERE owner IS NOT NULL",
    """CREATE TABLE iam.credential_grants (
        account uuid NOT NULL REFERENCES iam.accounts ON DELETE CASCADE,
        role text NOT NULL,
        region uuid)""",
    "CREATE INDEX credential_grants_account ON iam.credential_grants (account)",
    """CREATE TABLE iam.assignments (
        id uuid PRIMARY KEY,
        account uuid NOT NULL REFERENCES iam.accounts ON DELETE CASCADE,
        role text NOT NULL,
        project uuid REFERENCES iam.projects,
        region uuid,
        create_us bigint NOT NULL)""",
    """CREATE UNIQUE INDEX assignments_once ON iam.assignments (account, role,
        coalesce(project, '00000000-0000-0000-0000-000000000000'),
        coalesce(region, '00000000-0000-0000-0000-000000000000'))""",
    "CREATE INDEX assignments_project ON iam.assignments (project)",
    """CREATE TABLE iam.sessions (
        id uuid PRIMARY KEY,
        account uuid NOT NULL REFERENCES iam.accounts ON DELETE CASCADE,
        project uuid REFERENCES iam.projects ON DELETE CASCADE,
        turn integer NOT NULL,
        sealed_key bytea NOT NULL,
        issue_us bigint NOT NULL,
        expire_us bigint NOT NULL)""",
    "CREATE INDEX sessions_account ON iam.sessions (account)",
    "CREATE INDEX sessions_project ON iam.sessions (project) WHERE project IS NOT NULL",
    "CREATE INDEX sessions_expire ON iam.sessions (expire_us)",
    """CREATE TABLE iam.signing_keys (
        id text PRIMARY KEY,
        public_jwk text NOT NULL,
        sealed_private bytea,
        active_us bigint NOT NULL,
        retire_us bigint)""",
    """CREATE TABLE iam.revocations (
        kind text NOT NULL,
        id uuid NOT NULL,
        before_us bigint NOT NULL,
        expire_us bigint NOT NULL,
        published boolean NOT NULL,
        PRIMARY KEY (kind, id))""",
    "CREATE INDEX revocations_unpublished ON iam.revocations (kind, id) WHERE NOT published",
    "CREATE TABLE iam.removed_names (id uuid PRIMARY KEY)",
    """CREATE TABLE iam.requests (
        account uuid NOT NULL,
        project uuid NOT NULL,
        request_id uuid NOT NULL,
        sealed_outcome bytea,
        create_us bigint NOT NULL,
        PRIMARY KEY (account, project, request_id))""",
    "CREATE INDEX requests_create ON iam.requests (create_us)",
    """CREATE TABLE iam.login_failures (
        subject text PRIMARY KEY,
        failures integer NOT NULL,
        blocked_until_us bigint NOT NULL,
        last_us bigint NOT NULL)""",
)


def upgrade() -> None:
    """Only adds: the version before must keep running beside this one."""
    for statement in STATEMENTS:
        op.execute(statement)
