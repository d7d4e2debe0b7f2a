"""RabbitMQ: a broker that was found, or one of our own that tests may break."""

from __future__ import annotations

import itertools
import json
import os
import shutil
import signal
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from urllib.parse import urlsplit

from amqp import Connection
from amqp.exceptions import AMQPError, ResourceLocked
from django.conf import settings

from outbound.topology import dead, dead_letter_name, work
from tests.house.polling import wait_until
from tests.services.broker import Broker
from tests.services.missing import ServiceMissing
from tests.services.ports import free_port
from tests.services.process import Process

LOCAL = "amqp://guest:guest@127.0.0.1:5672//"
ELSEWHERE = "/usr/sbin"  # where Debian puts it, and an ordinary user's PATH does not look
LOCK = "holdfast-tests"
START_SECONDS = 60.0
STEP_SECONDS = 30.0
AWAY = (OSError, AMQPError)

_numbers = itertools.count(1)


class PrivateRabbitMQ:
    """A broker of our own: its node name, ports (AMQP, distribution, epmd), cookie, settings and
    data are its alone. It has no plugins."""

    def __init__(self) -> None:
        self._programs = find_programs()
        self._port = free_port()
        self._distribution_port = free_port()
        self._epmd_port = free_port()
        self._node = f"holdfast-{os.getpid()}-{next(_numbers)}@localhost"
        self._vhosts = ["/"]
        self._process: Process | None = None
        self.origin = "started privately"
        self.version = ""
        self._folder = Path(tempfile.mkdtemp(prefix="holdfast-", dir="/tmp"))
        self.log = self._folder / "log"
        self.log.touch()
        try:
            self._configure()
            self.start()
            self.version = Broker(self.url("/")).version()
        except BaseException:
            self.close()
            raise

    def __str__(self) -> str:
        return f"RabbitMQ {self.version} {self.origin}"

    def url(self, vhost: str) -> str:
        """The URL of a virtual host; "/" is the one that is always there."""
        return f"amqp://guest:guest@127.0.0.1:{self._port}/{vhost}"

    @contextmanager
    def vhost(self) -> Iterator[Broker]:
        """A new virtual host, empty; it exists again after `wipe`, and is removed at the end."""
        name = f"test-{next(_numbers)}"
        self._vhosts.append(name)
        self._write_definitions()
        self.control("import_definitions", str(self._definitions))
        try:
            yield Broker(self.url(name))
        finally:
            self._vhosts.remove(name)
            self._write_definitions()
            self.heal()
            self.control("delete_vhost", name)

    def start(self) -> None:
        """Start it on the data it has; returns when it serves clients."""
        self._process = Process(
            name="RabbitMQ",
            command=[str(self._programs / "rabbitmq-server")],
            environment=self._environment(),
            log=self.log,
            cwd=self._folder,
            folder=self._folder,
        )
        wait_until(self._started, seconds=START_SECONDS, what="RabbitMQ serves clients")

    def stop(self) -> None:
        """Shut it down in order; what is durable stays."""
        if self._process:
            self._process.stop(signal.SIGTERM, within=STEP_SECONDS)

    def kill(self) -> None:
        """SIGKILL."""
        if self._process:
            self._process.kill()

    def restart(self) -> None:
        self.stop()
        self.start()

    def wipe(self) -> None:
        """Kill it, lose every queue and message, start it empty."""
        self.kill()
        shutil.rmtree(self._data)
        self.start()

    def freeze(self) -> None:
        """SIGSTOP all of it: connections are accepted by the kernel, and nobody answers."""
        if self._process:
            self._process.freeze()

    def thaw(self) -> None:
        if self._process:
            self._process.thaw()

    def stop_app(self) -> None:
        """Close it to clients while its node stays up."""
        self.control("stop_app")

    def start_app(self) -> None:
        self.control("start_app")
        wait_until(self.answers, seconds=START_SECONDS, what="RabbitMQ serves clients")

    def answers(self) -> bool:
        try:
            Broker(self.url("/")).version()
        except AWAY:
            return False
        return True

    def heal(self) -> None:
        """Undo whatever a test did to it."""
        self.thaw()
        if not (self._process and self._process.running):
            self.start()
        elif not self.answers():
            self.start_app()

    def close(self) -> None:
        """End it and remove its data."""
        self.kill()
        shutil.rmtree(self._folder, ignore_errors=True)

    def control(self, *arguments: str) -> str:
        """Run rabbitmqctl (about half a second) and return what it prints."""
        done = subprocess.run(
            [str(self._programs / "rabbitmqctl"), "--quiet", *arguments],
            env=self._environment(),
            cwd=self._folder,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=STEP_SECONDS,
            check=False,
        )
        if done.returncode:
            raise RuntimeError(f"rabbitmqctl {' '.join(arguments)}: {done.stderr.strip()[-500:]}")
        return done.stdout

    @property
    def _data(self) -> Path:
        return self._folder / "data"

    @property
    def _definitions(self) -> Path:
        return self._folder / "definitions.json"

    def _configure(self) -> None:
        (self._folder / "rabbitmq.conf").write_text(
            f"listeners.tcp.1 = 127.0.0.1:{self._port}\n"
            "log.console = true\n"
            "log.file = false\n"
            f"load_definitions = {self._definitions}\n"
            # a nearly full disk would block publishers, and has nothing to do with us
            "disk_free_limit.absolute = 10MB\n"
        )
        (self._folder / "plugins").write_text("[].\n")
        self._write_definitions()

    def _write_definitions(self) -> None:
        """What is there from the start, whenever it starts. Quicker than a command for each."""
        everything = {"configure": ".*", "write": ".*", "read": ".*"}
        definitions = {
            "users": [{"name": "guest", "password": "guest", "tags": "administrator"}],
            "vhosts": [{"name": name} for name in self._vhosts],
            "permissions": [{"user": "guest", "vhost": v, **everything} for v in self._vhosts],
        }
        self._definitions.write_text(json.dumps(definitions))

    def _environment(self) -> dict[str, str]:
        only_loopback = "-kernel inet_dist_use_interface {127,0,0,1}"
        return {
            "PATH": os.environ.get("PATH", os.defpath),
            "HOME": str(self._folder),  # where Erlang keeps the cookie
            "LANG": "C.UTF-8",
            "ERL_EPMD_PORT": str(self._epmd_port),
            "ERL_EPMD_ADDRESS": "127.0.0.1",
            "RABBITMQ_NODENAME": self._node,
            "RABBITMQ_CONF_ENV_FILE": os.devnull,  # not the machine's own settings
            "RABBITMQ_CONFIG_FILE": str(self._folder / "rabbitmq.conf"),
            "RABBITMQ_ADVANCED_CONFIG_FILE": str(self._folder / "advanced.config"),
            "RABBITMQ_ENABLED_PLUGINS_FILE": str(self._folder / "plugins"),
            "RABBITMQ_MNESIA_BASE": str(self._data),
            "RABBITMQ_LOG_BASE": str(self._folder),
            "RABBITMQ_DIST_PORT": str(self._distribution_port),
            "RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS": only_loopback,
            # signals go to the server itself, with no shell in between
            "RUNNING_UNDER_SYSTEMD": "true",
        }

    def _started(self) -> bool:
        assert self._process
        if not self._process.running:
            raise ServiceMissing(f"RabbitMQ did not start: {self._process.tail(5)}")
        return self.answers()


class SharedBroker(Broker):
    """A broker for tests that break nothing, perhaps somebody else's. We keep to the queues of the
    project, one test session at a time, and remove them around each test."""

    def __init__(self, url: str, *, origin: str) -> None:
        super().__init__(url)
        self.origin = origin
        try:
            self._version = self.version()
            self._lock = self._take_lock()
        except AWAY as error:
            raise ServiceMissing(_in_words(error)) from error

    def __str__(self) -> str:
        return f"RabbitMQ {self._version} {self.origin}"

    def in_use(self) -> bool:
        """Whether removing the project's queues would harm somebody."""
        return any(self.queue_length(name) or self.consumers(name) for name in our_queues())

    def clean(self) -> None:
        """Remove what the project declares, but for the delay queues, which any Celery shares."""
        for name in our_queues():
            self.delete(name)
        with self.channel() as channel:
            for exchange in (work, dead):
                channel.exchange_delete(exchange.name)

    def close(self) -> None:
        """Let another session use it."""
        with suppress(*AWAY):  # it may have been killed meanwhile
            self._lock.close()

    def _take_lock(self) -> Connection:
        """An exclusive queue belongs to one connection, and goes when that ends."""
        lock = self.connect()
        try:
            lock.channel().queue_declare(LOCK, exclusive=True)
        except ResourceLocked:
            lock.close()
            raise ServiceMissing("another test session uses it") from None
        return lock


def our_queues() -> list[str]:
    names = [queue.name for queue in settings.CELERY_TASK_QUEUES]
    return [*names, *map(dead_letter_name, names)]


def find_rabbitmq(named: str | None) -> SharedBroker:
    """The broker that TEST_BROKER_URL names, else one at the standard local port if nobody's
    queues would be touched.

    Raises ServiceMissing, also when the named one is of no use: it was asked for.
    """
    if named:
        place = _place(named)
        try:
            broker = SharedBroker(named, origin=f"at {place} (TEST_BROKER_URL)")
        except ServiceMissing as missing:
            raise ServiceMissing(f"TEST_BROKER_URL ({place}): {missing}") from None
        broker.clean()
        return broker
    try:
        broker = SharedBroker(LOCAL, origin="at 127.0.0.1:5672")
    except ServiceMissing as missing:
        raise ServiceMissing(f"127.0.0.1:5672: {missing}") from None
    if broker.in_use():
        broker.close()
        raise ServiceMissing(
            "127.0.0.1:5672: this project's queues there are in use, perhaps by a running stack"
        )
    return broker


def find_programs() -> Path:
    """The folder of RabbitMQ's own programs. Raises ServiceMissing."""
    places = f"{os.environ.get('PATH', '')}:{ELSEWHERE}"
    on_path = shutil.which("rabbitmq-server", path=places)
    if on_path is None:
        raise ServiceMissing("RabbitMQ is not installed (no rabbitmq-server on PATH)")
    # Debian's is a wrapper that changes the user and forgets our settings; the real one is beside.
    folder = Path(on_path).resolve().parent
    if not (folder / "rabbitmqctl").exists():
        raise ServiceMissing(f"RabbitMQ in {folder} has no rabbitmqctl")
    if shutil.which("erl") is None:
        raise ServiceMissing("RabbitMQ is installed, but Erlang is not (no erl on PATH)")
    return folder


def _place(url: str) -> str:
    parts = urlsplit(url)
    return f"{parts.hostname or 'localhost'}:{parts.port or 5672}"


def _in_words(error: BaseException) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0]
