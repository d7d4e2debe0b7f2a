"""A PostgreSQL of our own, that tests may break."""

from __future__ import annotations

import os
import pwd
import shutil
import signal
import subprocess
import tempfile
from contextlib import suppress
from pathlib import Path

import psycopg

from tests.house.polling import wait_until
from tests.services.missing import ServiceMissing
from tests.services.ports import free_port
from tests.services.process import Process
from tests.services.shared_postgres import PostgresServer

INSTALLED = "/usr/lib/postgresql"
STOPS = {"smart": signal.SIGTERM, "fast": signal.SIGINT, "immediate": signal.SIGQUIT}
START_SECONDS = 30.0


class PrivatePostgres(PostgresServer):
    """A server of our own: its data folder, port and socket are its alone.

    fsync: whether it writes through to the disk, as a real one does.
    """

    def __init__(self, *, fsync: bool = True) -> None:
        self._programs = find_programs()
        self._user = unprivileged_user()
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
            environment=plain_environment(),
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
            env=plain_environment(),
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


def unprivileged_user() -> pwd.struct_passwd | None:
    """PostgreSQL refuses to run as root; None where we are not."""
    if os.geteuid():
        return None
    for name in ("postgres", "nobody"):
        with suppress(KeyError):
            return pwd.getpwnam(name)
    raise ServiceMissing("PostgreSQL refuses to run as root, and there is no user postgres, nobody")


def plain_environment() -> dict[str, str]:
    """What a server's program needs to run, and nothing of ours."""
    return {"PATH": os.environ.get("PATH", os.defpath), "LC_ALL": "C", "TZ": "UTC"}
