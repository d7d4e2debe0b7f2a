"""A PgBouncer of our own, between a test and its PostgreSQL."""

from __future__ import annotations

import os
import shutil
import tempfile
from contextlib import suppress
from pathlib import Path
from urllib.parse import urlsplit, urlunsplit

import psycopg

from tests.house.polling import wait_until
from tests.services.missing import ServiceMissing
from tests.services.ports import free_port
from tests.services.postgres import PrivatePostgres, plain_environment, unprivileged_user
from tests.services.process import Process

ELSEWHERE = "/usr/sbin"  # where Debian puts it, and an ordinary user's PATH does not look
START_SECONDS = 20.0
POOL_SIZE = 2  # connections to a database, fewer than there are clients: each transaction changes


class PrivatePgBouncer:
    """A pooler in front of all databases of a server of ours. It hands its few connections on
    between transactions: https://www.pgbouncer.org/features.html"""

    def __init__(self, server: PrivatePostgres) -> None:
        self._program = find_program()
        self._behind = urlsplit(server.url(""))
        self._port = free_port()
        self._process: Process | None = None
        self._folder = Path(tempfile.mkdtemp(prefix="holdfast-", dir="/tmp"))
        self.log = self._folder / "log"
        self.log.touch()
        try:
            self._start()
        except BaseException:
            self.close()
            raise

    def url(self, direct: str) -> str:
        """The URL by which a database is reached through it. direct: of the server itself."""
        here = f"{self._behind.username}@127.0.0.1:{self._port}"
        return urlunsplit(urlsplit(direct)._replace(netloc=here))

    def close(self) -> None:
        """End it."""
        if self._process:
            self._process.kill()
        shutil.rmtree(self._folder, ignore_errors=True)

    def _start(self) -> None:
        settings = self._folder / "pgbouncer.ini"
        settings.write_text(
            "[databases]\n"
            f"* = host=127.0.0.1 port={self._behind.port} user={self._behind.username}\n"
            "[pgbouncer]\n"
            f"listen_addr = 127.0.0.1\nlisten_port = {self._port}\nunix_socket_dir =\n"
            f"auth_type = any\npool_mode = transaction\ndefault_pool_size = {POOL_SIZE}\n"
        )
        user = unprivileged_user()  # it refuses to run as root, too
        if user:
            for path in (self._folder, settings):
                os.chown(path, user.pw_uid, user.pw_gid)
        self._process = Process(
            name="PgBouncer",
            command=[self._program, str(settings)],
            environment=plain_environment(),
            log=self.log,
            cwd=self._folder,
            folder=self._folder,
            user=f"{user.pw_uid}:{user.pw_gid}" if user else "",
        )
        wait_until(self._answers, seconds=START_SECONDS, what="PgBouncer accepts queries")

    def _answers(self) -> bool:
        assert self._process
        if not self._process.running:
            raise ServiceMissing(f"PgBouncer did not start: {self._process.tail(3)}")
        with suppress(psycopg.OperationalError):
            psycopg.connect(self.url(urlunsplit(self._behind._replace(path="/postgres")))).close()
            return True
        return False


def find_program() -> str:
    """Raises ServiceMissing."""
    program = shutil.which("pgbouncer", path=f"{os.environ.get('PATH', '')}:{ELSEWHERE}")
    if program is None:
        raise ServiceMissing("PgBouncer is not installed (no pgbouncer on PATH)")
    return program
