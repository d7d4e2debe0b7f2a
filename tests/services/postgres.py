"""PostgreSQL: a server that was found, or one of our own that tests may break."""

from __future__ import annotations

import getpass
import itertools
import os
import pwd
import shutil
import signal
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from urllib.parse import urlsplit, urlunsplit

import psycopg
from psycopg import sql

from tests.house.polling import wait_until
from tests.services.missing import ServiceMissing
from tests.services.ports import free_port
from tests.services.process import Process

OLDEST = 140000  # Django 5.2 supports PostgreSQL 14 and newer
INSTALLED = "/usr/lib/postgresql"
PREFIX = "holdfast_test"
STOPS = {"smart": signal.SIGTERM, "fast": signal.SIGINT, "immediate": signal.SIGQUIT}
START_SECONDS = 30.0

_numbers = itertools.count(1)


class PostgresServer:
    """A server in which we may make databases. `origin` says where it comes from."""

    def __init__(self, url: str, *, origin: str) -> None:
        self._url = url
        self.origin = origin
        self.version = ""

    def __str__(self) -> str:
        return f"PostgreSQL {self.version} {self.origin}"

    def url(self, database: str) -> str:
        """The URL of one of its databases."""
        return urlunsplit(urlsplit(self._url)._replace(path=f"/{database}"))

    def check(self) -> None:
        """Raises ServiceMissing unless it answers, is recent, and lets us make databases."""
        try:
            with psycopg.connect(self._url, connect_timeout=3) as connection:
                self.version = connection.info.parameter_status("server_version") or ""
                self.version = self.version.split()[0]
                version = connection.info.server_version
                allowed = connection.execute(
                    "SELECT rolcreatedb OR rolsuper FROM pg_roles WHERE rolname = current_user"
                ).fetchone()
        except psycopg.Error as error:
            raise ServiceMissing(_first_line(error)) from error
        if version < OLDEST:
            raise ServiceMissing(f"PostgreSQL {self.version} is too old, 14 or newer is needed")
        if allowed != (True,):
            raise ServiceMissing("its user may not create databases (ALTER ROLE ... CREATEDB)")

    def execute(self, statement: sql.Composed) -> None:
        """Run one statement outside of any test's database."""
        with psycopg.connect(self._url, connect_timeout=10, autocommit=True) as connection:
            connection.execute(statement)

    @contextmanager
    def database(self, *, template: str | None = None) -> Iterator[str]:
        """The URL of a new database, a copy of `template` if given; dropped afterwards."""
        name = self.new_name()
        self.create_database(name, template=template)
        try:
            yield self.url(name)
        finally:
            self.drop_database(name)

    def new_name(self) -> str:
        """The name of a database that belongs to this process."""
        return f"{PREFIX}_{os.getpid()}_{next(_numbers)}"

    def create_database(self, name: str, *, template: str | None = None) -> None:
        self.execute(
            sql.SQL("CREATE DATABASE {} TEMPLATE {}").format(
                sql.Identifier(name), sql.Identifier(template or "template0")
            )
        )

    def drop_database(self, name: str) -> None:
        """Drop it, whoever is connected."""
        self.execute(
            sql.SQL("DROP DATABASE IF EXISTS {} WITH (FORCE)").format(sql.Identifier(name))
        )

    def disconnect(self, name: str) -> None:
        """End every connection to a database."""
        terminate = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = {}"
        self.execute(sql.SQL(terminate).format(sql.Literal(name)))

    def close(self) -> None:
        """Nothing to end: somebody else runs it."""

    def drop_leftovers(self) -> None:
        """Drop what sessions on this machine left behind when they were killed."""
        with psycopg.connect(self._url, connect_timeout=3, autocommit=True) as connection:
            names = connection.execute(
                "SELECT datname FROM pg_database WHERE datname LIKE %s", [f"{PREFIX}\\_%"]
            ).fetchall()
            for (name,) in names:
                owner = name.removeprefix(f"{PREFIX}_").partition("_")[0]
                if owner.isdigit() and not _is_alive(int(owner)):
                    with suppress(psycopg.Error):  # in use after all: not ours to drop
                        connection.execute(sql.SQL("DROP DATABASE {}").format(sql.Identifier(name)))


class PrivatePostgres(PostgresServer):
    """A server of our own: its data folder, port and socket are its alone.

    fsync: whether it writes through to the disk, as a real one does.
    """

    def __init__(self, *, fsync: bool = True) -> None:
        self._programs = find_programs()
        self._user = _unprivileged_user()
        self._port = free_port()
        self._fsync = fsync
        self._process: Process | None = None
        super().__init__(
            f"postgres://holdfast@127.0.0.1:{self._port}/postgres", origin="started privately"
        )
        # Short, for a socket's path has room for 107 bytes; not below pytest's own folder, which
        # the unprivileged user may not enter.
        self._folder = Path(tempfile.mkdtemp(prefix="holdfast-", dir="/tmp"))
        self.log = self._folder / "log"
        self.log.touch()
        if self._user:
            os.chown(self._folder, self._user.pw_uid, self._user.pw_gid)
        try:
            self._initialise()
            self.start()
            self.check()
        except BaseException:
            self.close()
            raise

    def start(self) -> None:
        """Start it on the data it has; returns when it accepts queries."""
        self._process = Process(
            name="PostgreSQL",
            command=[str(self._programs / "postgres"), "-D", str(self._data), *self._settings()],
            environment=_environment(),
            log=self.log,
            cwd=self._folder,
            folder=self._folder,
            user=f"{self._user.pw_uid}:{self._user.pw_gid}" if self._user else "",
        )
        wait_until(self._started, seconds=START_SECONDS, what="PostgreSQL accepts queries")

    def stop(self, mode: str = "fast") -> None:
        """Stop it: "smart", "fast" or "immediate", as in pg_ctl."""
        if self._process:
            self._process.stop(STOPS[mode])

    def kill(self) -> None:
        """SIGKILL the server and every process of it."""
        if self._process:
            self._process.kill()

    def restart(self, mode: str = "fast") -> None:
        self.stop(mode)
        self.start()

    def freeze(self) -> None:
        """SIGSTOP all of it: connections are accepted by the kernel, and nobody answers."""
        if self._process:
            self._process.freeze()

    def thaw(self) -> None:
        if self._process:
            self._process.thaw()

    def heal(self) -> None:
        """Undo whatever a test did to it."""
        self.thaw()
        if not (self._process and self._process.running):
            self.start()
        self.check()

    def close(self) -> None:
        """End it and remove its data."""
        self.kill()
        shutil.rmtree(self._folder, ignore_errors=True)

    @property
    def _data(self) -> Path:
        return self._folder / "data"

    def _initialise(self) -> None:
        command = [str(self._programs / "initdb"), "-D", str(self._data), "-U", "holdfast"]
        done = subprocess.run(
            [*command, "-A", "trust", "-E", "UTF8", "--locale=C", "--no-sync"],
            env=_environment(),
            cwd=self._folder,
            user=self._user.pw_uid if self._user else None,
            group=self._user.pw_gid if self._user else None,
            extra_groups=[] if self._user else None,
            capture_output=True,
            text=True,
            check=False,
        )
        if done.returncode:
            raise ServiceMissing(f"initdb failed: {done.stderr.strip()[-300:]}")

    def _settings(self) -> list[str]:
        settings = {
            "listen_addresses": "127.0.0.1",
            "port": self._port,
            "unix_socket_directories": self._folder,
            "fsync": "on" if self._fsync else "off",
            "shared_buffers": "32MB",
            "max_connections": 200,
        }
        return [part for name, value in settings.items() for part in ("-c", f"{name}={value}")]

    def _started(self) -> bool:
        assert self._process
        if not self._process.running:
            raise ServiceMissing(f"PostgreSQL did not start: {self._process.tail(3)}")
        try:
            psycopg.connect(self._url, connect_timeout=3).close()
        except psycopg.OperationalError:
            return False
        return True


def find_postgres(named: str | None) -> PostgresServer:
    """The server that TEST_DATABASE_URL names, else one at the standard local port.

    Raises ServiceMissing, also when the named one is of no use: it was asked for.
    """
    if named:
        server = PostgresServer(named, origin=f"at {_place(named)} (TEST_DATABASE_URL)")
        try:
            server.check()
        except ServiceMissing as missing:
            raise ServiceMissing(f"TEST_DATABASE_URL ({_place(named)}): {missing}") from None
        return server
    reason = ""
    for user in ("postgres", "postgres:postgres", getpass.getuser()):
        server = PostgresServer(
            f"postgres://{user}@127.0.0.1:5432/postgres", origin="at 127.0.0.1:5432"
        )
        try:
            server.check()
        except ServiceMissing as missing:
            reason = reason or f"127.0.0.1:5432: {missing}"
        else:
            return server
    raise ServiceMissing(reason)


def find_programs() -> Path:
    """The folder of PostgreSQL's server programs, the newest. Raises ServiceMissing."""
    versions = sorted(
        Path(INSTALLED).glob("*/bin"), key=lambda path: float(path.parent.name), reverse=True
    )
    on_path = shutil.which("initdb")
    if on_path:
        versions.insert(0, Path(on_path).resolve().parent)
    for folder in versions:
        if (folder / "initdb").exists() and (folder / "postgres").exists():
            return folder
    raise ServiceMissing(
        f"PostgreSQL's server is not installed (no initdb on PATH or in {INSTALLED}/*/bin)"
    )


def _unprivileged_user() -> pwd.struct_passwd | None:
    """PostgreSQL refuses to run as root; None where we are not."""
    if os.geteuid():
        return None
    for name in ("postgres", "nobody"):
        with suppress(KeyError):
            return pwd.getpwnam(name)
    raise ServiceMissing("PostgreSQL refuses to run as root, and there is no user postgres, nobody")


def _is_alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True


def _environment() -> dict[str, str]:
    return {"PATH": os.environ.get("PATH", os.defpath), "LC_ALL": "C", "TZ": "UTC"}


def _place(url: str) -> str:
    parts = urlsplit(url)
    return f"{parts.hostname or 'localhost'}:{parts.port or 5432}"


def _first_line(error: Exception) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0]
