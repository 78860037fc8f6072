"""Vocabulary, providers, claims, and the ledger that refuses over-commitment."""

from alembic import op

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None

STATEMENTS = (
    """CREATE TABLE resource.codes (
        shard text NOT NULL,
        kind text NOT NULL CHECK (kind IN ('provider_type', 'resource_type', 'capability', 'distance_type')),
        code text NOT NULL,
        unit text NOT NULL DEFAULT '',
        positions text[] NOT NULL DEFAULT '{}',
        PRIMARY KEY (shard, kind, code))""",
    """CREATE TABLE resource.provider_groups (
        id uuid PRIMARY KEY,
        shard text NOT NULL,
        region uuid NOT NULL,
        create_us bigint NOT NULL,
        distance_types text[] NOT NULL,
        positions text[] NOT NULL)""",
    "CREATE INDEX provider_groups_shard ON resource.provider_groups (shard, id)",
    """CREATE TABLE resource.providers (
        id uuid PRIMARY KEY,
        shard text NOT NULL,
        region uuid NOT NULL,
        provider_type text NOT NULL,
        capabilities text[] NOT NULL,
        groups uuid[] NOT NULL,
        state smallint NOT NULL CHECK (state IN (1, 2, 3)),
        state_reason text NOT NULL,
        state_since_us bigint NOT NULL,
        generation bigint NOT NULL,
        create_us bigint NOT NULL)""",
    "CREATE INDEX providers_shard ON resource.providers (shard, id)",
    """CREATE TABLE resource.inventories (
        provider uuid NOT NULL REFERENCES resource.providers ON DELETE CASCADE,
        resource_type text NOT NULL,
        total bigint NOT NULL CHECK (total > 0),
        reserved bigint NOT NULL CHECK (reserved BETWEEN 0 AND total),
        min_unit bigint NOT NULL CHECK (min_unit > 0),
        max_unit bigint NOT NULL CHECK (max_unit >= min_unit),
        step_size bigint NOT NULL CHECK (step_size > 0),
        allocation_ratio double precision NOT NULL CHECK (allocation_ratio > 0),
        PRIMARY KEY (provider, resource_type))""",
    """CREATE TABLE resource.claims (
        id uuid PRIMARY KEY,
        shard text NOT NULL,
        region uuid NOT NULL,
        project uuid NOT NULL,
        consumer uuid NOT NULL,
        acquire_us bigint NOT NULL,
        release_us bigint NOT NULL,
        create_us bigint NOT NULL,
        released boolean NOT NULL DEFAULT false,
        CHECK (acquire_us <= release_us))""",
    "CREATE INDEX claims_project ON resource.claims (project, id)",
    "CREATE INDEX claims_consumer ON resource.claims (consumer)",
    """CREATE TABLE resource.allocations (
        claim uuid NOT NULL,
        ordinal smallint NOT NULL,
        provider uuid NOT NULL,
        resource_type text NOT NULL,
        amount bigint NOT NULL CHECK (amount > 0),
        request_group text NOT NULL,
        exclusive boolean NOT NULL,
        PRIMARY KEY (claim, ordinal))""",
    "CREATE INDEX allocations_provider ON resource.allocations (provider)",
    """CREATE TABLE resource.quotas (
        id uuid PRIMARY KEY,
        shard text NOT NULL,
        project uuid NOT NULL,
        resource_type text NOT NULL,
        most bigint NOT NULL CHECK (most >= 0),
        UNIQUE (shard, project, resource_type))""",
    # One row for each owner (a provider or a quota), resource type and stretch of time from now on, without gaps.
    # nominal is what the inventory or quota says; capacity is more only where more was in use when that was lowered.
    """CREATE TABLE resource.ledger (
        owner uuid NOT NULL,
        resource_type text COLLATE "C" NOT NULL,
        from_us bigint NOT NULL,
        until_us bigint NOT NULL,
        used bigint NOT NULL,
        capacity bigint NOT NULL,
        nominal bigint NOT NULL,
        PRIMARY KEY (owner, resource_type, from_us),
        CHECK (from_us < until_us),
        CHECK (used >= 0),
        CONSTRAINT not_overcommitted CHECK (used <= capacity)) WITH (fillfactor = 60)""",
    """CREATE TABLE resource.requests (
        account uuid NOT NULL,
        project uuid NOT NULL,
        request_id uuid NOT NULL,
        digest bytea NOT NULL,
        response bytea NOT NULL,
        create_us bigint NOT NULL,
        PRIMARY KEY (account, project, request_id))""",
    # Rows come in order of time, so this index is a few pages however many there are.
    "CREATE INDEX requests_create ON resource.requests USING brin (create_us)",
)


def upgrade() -> None:
    """Only adds: the version before must keep running beside this one."""
    for statement in STATEMENTS:
        op.execute(statement)
