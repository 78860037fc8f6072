"""Machines, BMCs, operations with their steps, boot tokens, requests, history."""

from alembic import op

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None

STATEMENTS = (
    # The password is sealed; its context is the provider's id.
    """CREATE TABLE control.bmcs (
        provider uuid PRIMARY KEY,
        region uuid NOT NULL,
        driver text NOT NULL,
        host text NOT NULL,
        port integer NOT NULL,
        username text NOT NULL,
        password bytea NOT NULL,
        boot_mac text NOT NULL,
        update_us bigint NOT NULL)""",
    "CREATE UNIQUE INDEX bmcs_boot_mac ON control.bmcs (boot_mac)",
    "CREATE INDEX bmcs_region ON control.bmcs (region, provider)",
    # fence: grows with every executor that takes the machine; only the last one may touch the hardware.
    # netboot_us: since when its boot script is served. fault: why the hardware is suspect until a provision succeeds.
    """CREATE TABLE control.machines (
        id uuid PRIMARY KEY,
        region uuid NOT NULL,
        project uuid NOT NULL,
        claim uuid NOT NULL,
        claim_end_us bigint,
        provider uuid NOT NULL,
        kernel_url text NOT NULL,
        initrd_url text NOT NULL,
        kernel_args text NOT NULL,
        state smallint NOT NULL,
        state_since_us bigint NOT NULL,
        state_reason text NOT NULL,
        state_deadline_us bigint,
        operation uuid NOT NULL,
        fence bigint NOT NULL DEFAULT 0,
        version bigint NOT NULL DEFAULT 1,
        power text NOT NULL DEFAULT '',
        power_read_us bigint,
        netboot_us bigint,
        boot_script_us bigint,
        phone_home_us bigint,
        evidence text NOT NULL DEFAULT '',
        fault text NOT NULL DEFAULT '',
        create_us bigint NOT NULL)""",
    "CREATE UNIQUE INDEX machines_live_claim ON control.machines (claim) WHERE state <> 4",
    "CREATE UNIQUE INDEX machines_live_provider ON control.machines (provider) WHERE state <> 4",
    "CREATE INDEX machines_claim_end ON control.machines (claim_end_us) WHERE state IN (2, 5)",
    "CREATE INDEX machines_project ON control.machines (project, id)",
    # hold_fence and hold_until: the run that works on it now, so that a second delivery of the task lets it be.
    """CREATE TABLE control.operations (
        id uuid PRIMARY KEY,
        region uuid NOT NULL,
        project uuid NOT NULL,
        machine uuid NOT NULL REFERENCES control.machines,
        kind smallint NOT NULL,
        state smallint NOT NULL,
        error_reason text NOT NULL DEFAULT '',
        error_message text NOT NULL DEFAULT '',
        error_step text NOT NULL DEFAULT '',
        version bigint NOT NULL DEFAULT 1,
        runs integer NOT NULL DEFAULT 0,
        hold_fence bigint NOT NULL DEFAULT 0,
        hold_message bigint NOT NULL DEFAULT 0,
        hold_until timestamptz NOT NULL DEFAULT '-infinity',
        publish_us bigint,
        create_us bigint NOT NULL,
        done_us bigint)""",
    "CREATE INDEX operations_project ON control.operations (project, id)",
    "CREATE INDEX operations_machine ON control.operations (machine, id)",
    "CREATE INDEX operations_unfinished ON control.operations (publish_us NULLS FIRST) WHERE done_us IS NULL",
    # told: (fence, attempt, rank) of the last result that counted; older ones do not.
    """CREATE TABLE control.steps (
        operation uuid NOT NULL REFERENCES control.operations,
        position smallint NOT NULL,
        name text NOT NULL,
        state smallint NOT NULL,
        attempts integer NOT NULL DEFAULT 0,
        start_us bigint,
        done_us bigint,
        evidence text NOT NULL DEFAULT '',
        message text NOT NULL DEFAULT '',
        told bigint[] NOT NULL DEFAULT '{0,0,0}',
        PRIMARY KEY (operation, position))""",
    # Only hashes of tokens are kept.
    """CREATE TABLE control.boot_tokens (
        hash bytea PRIMARY KEY,
        machine uuid NOT NULL,
        operation uuid NOT NULL,
        issue_us bigint NOT NULL,
        expire_us bigint NOT NULL,
        void_us bigint,
        use_us bigint)""",
    "CREATE INDEX boot_tokens_operation ON control.boot_tokens (operation) WHERE void_us IS NULL",
    "CREATE INDEX boot_tokens_expire ON control.boot_tokens (expire_us)",
    # The first answer to each mutating request; the digest of the request is sealed, for it may cover a password.
    """CREATE TABLE control.requests (
        account text NOT NULL,
        project text NOT NULL,
        request_id uuid NOT NULL,
        digest bytea NOT NULL,
        response bytea NOT NULL,
        create_us bigint NOT NULL,
        PRIMARY KEY (account, project, request_id))""",
    "CREATE INDEX requests_create ON control.requests (create_us)",
    """CREATE TABLE control.machine_events (
        machine uuid NOT NULL,
        number bigint GENERATED ALWAYS AS IDENTITY,
        at_us bigint NOT NULL,
        operation uuid NOT NULL,
        state smallint NOT NULL,
        reason text NOT NULL,
        evidence text NOT NULL,
        PRIMARY KEY (machine, number))""",
)


def upgrade() -> None:
    """Only adds: the version before must keep running beside this one."""
    for statement in STATEMENTS:
        op.execute(statement)
