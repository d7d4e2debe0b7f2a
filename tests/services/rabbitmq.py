"""A RabbitMQ of our own, that tests may break."""

from __future__ import annotations

import itertools
import json
import os
import shutil
import signal
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.house.polling import wait_until
from tests.services.broker import AWAY, Broker
from tests.services.missing import ServiceMissing
from tests.services.ports import free_port
from tests.services.process import Process

ELSEWHERE = "/usr/sbin"  # where Debian puts it, and an ordinary user's PATH does not look
START_SECONDS = 60.0
STEP_SECONDS = 30.0

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
