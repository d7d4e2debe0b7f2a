"""A whole system of real processes over chosen databases and brokers, to be broken by a test."""

from __future__ import annotations

import http.client
import json
import os
import re
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Mapping
from pathlib import Path
from signal import SIGTERM
from typing import Any

from devtools.environment import celery_command, web_command
from sandbox.control import Sandbox
from tests.faults.invariants import EVENT_ENDED, Books, violations
from tests.faults.rows import Rows
from tests.house.polling import wait_until
from tests.services.broker import Broker
from tests.services.environment import ROOT, WEBHOOK_SECRET, kept, project_environment
from tests.services.ports import free_port
from tests.services.process import Process

START_SECONDS = 40.0
REST_SECONDS = 60.0
ANSWER_SECONDS = 60.0
TAIL_LINES = 25
# A crash is repaired in seconds: see also tests/faults/settings.py.
SHORT_WAITS = {
    "DJANGO_SETTINGS_MODULE": "tests.faults.settings",
    "LEASE_SECONDS": "5",
    "SWEEP_SECONDS": "1",
    "RETRY_SCHEDULE": ",".join(["1"] * 5 + ["3"] * 20),
    "RETRY_BUDGET_FLOOR": "1000",
    "BREAKER_OPEN_SECONDS": "1",
    "BREAKER_RAMP_STEP": "0.1",
}
MOVING = ("pending", "running", "retrying")


def environment(*, state: Path, database_url: str, broker_url: str = "memory://") -> dict[str, str]:
    """The environment of a system's processes; nothing of the developer's own is in it."""
    return {
        **kept(os.environ),
        **project_environment(state=state, database_url=database_url, broker_url=broker_url),
        **SHORT_WAITS,
        "PYTHONUNBUFFERED": "1",
        "REMAP_SIGTERM": "SIGQUIT",  # Celery: SIGTERM is the soft shutdown
    }


def migrate(*, database_url: str, state: Path) -> None:
    """Make all tables."""
    done = manage(environment(state=state, database_url=database_url), "migrate")
    assert done.returncode == 0, done.stderr


def manage(variables: Mapping[str, str], *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "manage.py", *arguments],
        cwd=ROOT,
        env=variables,
        capture_output=True,
        text=True,
        timeout=ANSWER_SECONDS,
        check=False,
    )


class Refused(Exception):
    """The project raised an error. `kind` is the name of its class."""

    def __init__(self, kind: str, message: str) -> None:
        super().__init__(f"{kind}: {message}")
        self.kind = kind


class System:
    """Web, workers, beat and a desk for orders: real processes with one environment.

    database_url: a migrated database. broker: None for the embedded form. settings: environment
    variables beside those that every system gets. Logs and state are kept in `folder`.
    """

    def __init__(
        self,
        *,
        folder: Path,
        database_url: str,
        broker: Broker | None,
        provider: Sandbox,
        settings: Mapping[str, str] | None = None,
    ) -> None:
        self.folder = folder
        self.broker = broker
        self.provider = provider
        self.rows = Rows(database_url)
        self.environment = {
            **environment(
                state=folder / "state",
                database_url=database_url,
                broker_url=broker.url if broker else "memory://",
            ),
            "STRIPE_API_BASE": provider.url,
            **(settings or {}),
        }
        self._processes: dict[str, Process] = {}
        self._starts: dict[str, Callable[[], None]] = {}
        self._said_before: dict[str, int] = {}  # bytes of the log when it was last started
        self._web_port = free_port()
        self._desk_port = free_port()
        self._desk_lock = threading.Lock()
        (folder / "state").mkdir()

    @property
    def web_url(self) -> str:
        return f"http://127.0.0.1:{self._web_port}"

    def start_web(self) -> None:
        """gunicorn, as gunicorn.conf.py has it; returns when it answers. From now on the provider
        sends its events there."""
        self._start("web", web_command(port=self._web_port), self._web_answers)
        self.provider.change_webhooks(
            url=f"{self.web_url}/webhooks/stripe", secrets=[WEBHOOK_SECRET]
        )

    def start_worker(self, name: str = "worker", *, concurrency: int = 16) -> None:
        """One worker on all queues; returns when it takes messages."""
        self._start(
            name,
            celery_command("worker", "-n", f"{name}@%h"),
            lambda: self._has_said(name, rb"@\S+ ready\."),
            WORKER_CONCURRENCY=str(concurrency),
        )

    def start_beat(self) -> None:
        """The scheduler; returns when it has begun."""
        self._start("beat", celery_command("beat"), lambda: self._has_said("beat", b"is starting"))

    def call(self, function: str, arguments: Mapping[str, Any], /, *, atomic: bool = True) -> Any:
        """Call one of the project's functions by its dotted path, in a process of the project and,
        unless told otherwise, in a transaction. An argument `row("app.Model", id)` stands for a
        row; a row comes back as its columns. Raises Refused with the project's own error."""
        with self._desk_lock:
            if "desk" not in self._processes:
                self.start_desk()
        order = {"function": function, "arguments": arguments, "atomic": atomic}
        address = ("127.0.0.1", self._desk_port)
        with (
            socket.create_connection(address, timeout=ANSWER_SECONDS) as connection,
            connection.makefile("rwb") as lines,
        ):
            lines.write(json.dumps(order).encode() + b"\n")
            lines.flush()
            answer = json.loads(lines.readline())
        if "error" in answer:
            raise Refused(answer["error"], answer["message"])
        return answer["result"]

    def start_desk(self) -> None:
        """The process that `call` speaks to; started by the first call."""
        command = [sys.executable, "-m", "tests.faults.desk", str(self._desk_port)]
        self._start("desk", command, lambda: _accepts(self._desk_port))

    def manage(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        """Run a management command of the system, whatever its exit status."""
        return manage(self.environment, *arguments)

    def kill(self, name: str) -> None:
        """SIGKILL a process and everything it has started; returns when they are gone."""
        self._processes[name].kill()

    def stop(self, name: str) -> int:
        """SIGTERM, and wait. Returns the exit status."""
        return self._processes[name].stop(SIGTERM, within=START_SECONDS)

    def freeze(self, name: str) -> None:
        """SIGSTOP a process and everything it has started."""
        self._processes[name].freeze()

    def thaw(self, name: str) -> None:
        self._processes[name].thaw()

    def start(self, name: str) -> None:
        """Start a process again that has been killed or stopped, as it was."""
        self._starts[name]()

    def running(self) -> set[str]:
        """The names of the processes that live."""
        return {name for name, process in self._processes.items() if process.running}

    def process(self, name: str) -> Process:
        return self._processes[name]

    def wait_until(
        self, seen: Callable[[], object], *, seconds: float = REST_SECONDS, what: str
    ) -> None:
        """Return as soon as `seen` is true; fail after `seconds`."""
        wait_until(seen, seconds=seconds, what=what)

    def wait_for_rest(self, *, seconds: float = REST_SECONDS) -> None:
        """Until no call and no event has anything left to do by itself."""
        self.wait_until(self.at_rest, seconds=seconds, what="every call and event has ended")

    def at_rest(self) -> bool:
        moving = any(call.status in MOVING for call in self.rows.calls())
        return not moving and all(event.status in EVENT_ENDED for event in self.rows.events())

    def check_invariants(self, *, client_frozen: bool = False) -> Books:
        """Compare the rows with the provider's books; fail with every promise that is broken.
        Call it at rest. Returns what was compared. See `invariants.violations`."""
        books = Books(
            calls=self.rows.calls(),
            attempts=self.rows.attempts(),
            events=self.rows.events(),
            effects=self.provider.ledger(),
            requests=self.provider.requests(),
            deliveries=self.provider.deliveries(),
        )
        broken = violations(books, client_frozen=client_frozen)
        assert not broken, "\n".join(broken)
        return books

    def logs(self) -> str:
        """The last lines of every process. A test that fails shows them by itself."""
        return "\n".join(
            f"--- {name}\n{process.tail(TAIL_LINES)}" for name, process in self._processes.items()
        )

    def close(self) -> None:
        """Kill everything."""
        for process in self._processes.values():
            process.kill()

    def _start(
        self, name: str, command: list[str], ready: Callable[[], bool], **variables: str
    ) -> None:
        def start() -> None:
            running = self._processes.get(name)
            assert not (running and running.running), f"{name} is running"
            log = self.folder / f"{name}.log"
            log.touch()
            self._said_before[name] = log.stat().st_size
            self._processes[name] = process = Process(
                name=name,
                command=command,
                environment={**self.environment, **variables},
                log=log,
                cwd=ROOT,
            )

            def up() -> bool:
                assert process.running, f"{name} ended with {process.status}:\n{process.tail()}"
                return ready()

            self.wait_until(up, seconds=START_SECONDS, what=f"{name} is up")

        self._starts[name] = start
        start()

    def _web_answers(self) -> bool:
        connection = http.client.HTTPConnection("127.0.0.1", self._web_port, timeout=5)
        try:
            connection.request("GET", "/livez")
            return connection.getresponse().status == 200
        except OSError:
            return False
        finally:
            connection.close()

    def _has_said(self, name: str, pattern: bytes) -> bool:
        said = self._processes[name].log.read_bytes()[self._said_before[name] :]
        return re.search(pattern, said) is not None


def row(model: str, id: str) -> dict[str, str]:  # noqa: A002 - the column's name
    """An argument of `System.call`: the row of that model."""
    return {"row": model, "id": id}


def _accepts(port: int) -> bool:
    try:
        socket.create_connection(("127.0.0.1", port), timeout=1).close()
    except OSError:
        return False
    return True
