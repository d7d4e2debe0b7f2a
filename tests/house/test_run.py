"""`./dev run`: real web, worker and sandbox processes under the real supervisor."""

from __future__ import annotations

import json
import os
import re
import signal
import socket
import subprocess
import sys
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import requests

from devtools.run import chosen_port, complete_environment
from devtools.running import Running, find_running, only_one
from devtools.trouble import Trouble
from tests.house.polling import wait_until
from tests.house.processes import command_line, in_session, is_running, with_marker
from tests.services.broker import Broker
from tests.services.environment import kept
from tests.services.ports import free_port

ROOT = Path(__file__).resolve().parents[2]
START_SECONDS = 90.0
STOP_SECONDS = 60.0
PASSWORD = re.compile(r"Log in as admin with the password (\S+) ")


class Run:
    """One `./dev run` with its state in a folder of its own."""

    def __init__(self, state: Path, output: Path, **variables: str) -> None:
        self.port = free_port()
        self.marker = f"HOLDFAST_TEST={uuid.uuid4()}"
        self._output = output
        name, _, value = self.marker.partition("=")
        given = {"STATE_DIR": str(state), "PORT": str(self.port), name: value, **variables}
        self.environment = {**kept(os.environ), **given}
        with output.open("w") as file:
            self.supervisor = subprocess.Popen(
                [sys.executable, "-m", "devtools.run"],
                cwd=ROOT,
                env=self.environment,
                stdin=subprocess.DEVNULL,
                stdout=file,
                stderr=file,
            )

    @property
    def printed(self) -> str:
        return self._output.read_text()

    def up(self) -> None:
        """Returns once it has said so."""
        wait_until(
            lambda: "Ctrl-C stops everything." in self.printed or not self.is_up,
            seconds=START_SECONDS,
            what="the stack is up",
        )
        assert self.is_up, self.printed

    @property
    def is_up(self) -> bool:
        return self.supervisor.poll() is None

    def interrupt(self) -> int:
        """Ctrl-C; the exit status."""
        self.supervisor.send_signal(signal.SIGINT)
        return self.supervisor.wait(STOP_SECONDS)

    def pid(self, words: str) -> int | None:
        """The leader of the session whose command line has these words."""
        for pid in with_marker(self.marker):
            if words in command_line(pid) and pid in in_session(pid):
                return pid
        return None

    def get(self, path: str) -> requests.Response:
        return requests.get(f"http://127.0.0.1:{self.port}{path}", timeout=10)

    def logs_in(self, password: str) -> bool:
        with requests.Session() as browser:
            address = f"http://127.0.0.1:{self.port}/admin/login/?next=/admin/"
            browser.get(address, timeout=10)
            form = {"username": "admin", "password": password}
            form["csrfmiddlewaretoken"] = browser.cookies["csrftoken"]
            reply = browser.post(address, data=form, timeout=10, allow_redirects=False)
            return reply.status_code == 302


@pytest.fixture
def run(tmp_path: Path) -> Iterator[Callable[..., Run]]:
    """Starts one; whatever a test does, nothing of it is left."""
    runs: list[Run] = []

    def start(**variables: str) -> Run:
        output = tmp_path / f"output{len(runs)}"
        runs.append(Run(tmp_path / "state", output, **variables))
        return runs[-1]

    yield start
    for started in runs:
        if started.is_up:
            started.supervisor.kill()
            started.supervisor.wait()
        wait_until(lambda: with_marker(started.marker) == [], what="no process is left")  # noqa: B023


@pytest.mark.faults
@pytest.mark.slow
def test_up_and_down_and_up_again(run: Callable[..., Run]) -> None:
    """Address and password at the first start, no password at the second, nothing left behind."""
    first = run()
    first.up()
    assert f"http://127.0.0.1:{first.port}/admin/" in first.printed
    [password] = PASSWORD.findall(first.printed)
    assert first.logs_in(password)
    assert not first.logs_in("not the password")
    assert first.get("/readyz").status_code == 200
    assert first.get("/static/admin/css/base.css").status_code == 200
    assert len(with_marker(first.marker)) > 3
    assert first.interrupt() == 0
    assert with_marker(first.marker) == []

    second = run()
    second.up()
    assert PASSWORD.findall(second.printed) == []
    assert second.logs_in(password)
    second.supervisor.terminate()
    assert second.supervisor.wait(STOP_SECONDS) == 0
    assert with_marker(second.marker) == []


@pytest.mark.faults
@pytest.mark.slow
def test_a_payment_goes_out_and_its_webhook_comes_back(run: Callable[..., Run]) -> None:
    """Without a Stripe key: the sandbox answers `./dev manage` too, and its events arrive."""
    stack = run()
    stack.up()
    assert "plays Stripe" in stack.printed
    program = (
        "from payments.services import create_payment;"
        "paid = create_payment(amount=900, currency='usd', payment_method='pm_card_visa',"
        " confirm=True, wait=20); print('paid', paid.status)"
    )
    assert "paid succeeded" in manage(stack, "shell", "--command", program)
    handled = (
        "from webhooks.models import WebhookEvent;"
        "print('handled', WebhookEvent.objects.filter(status='processed').count())"
    )
    wait_until(lambda: "handled 0" not in manage(stack, "shell", "--command", handled), seconds=60)


def manage(stack: Run, *arguments: str) -> str:
    done = subprocess.run(
        [sys.executable, "-m", "devtools.manage", *arguments],
        cwd=ROOT,
        env=stack.environment,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.faults
@pytest.mark.slow
def test_a_killed_process_comes_back(run: Callable[..., Run]) -> None:
    """SIGKILL of any of them: the supervisor starts it again, and says so."""
    stack = run()
    stack.up()
    for words in ("sandbox", "celery", "gunicorn"):
        first = stack.pid(words)
        assert first
        os.kill(first, signal.SIGKILL)
        wait_until(lambda: stack.pid(words) not in {None, first}, what=f"{words} is back")  # noqa: B023
        name = {"celery": "worker", "gunicorn": "web"}.get(words, words)
        assert re.search(rf"^{name} +\| ended \(killed by SIGKILL\)", stack.printed, re.MULTILINE)
    wait_until(lambda: answered(stack), seconds=START_SECONDS, what="the web process answers")
    assert stack.interrupt() == 0


def answered(stack: Run) -> bool:
    try:
        return stack.get("/livez").status_code == 200
    except requests.RequestException:
        return False


@pytest.mark.faults
@pytest.mark.slow
def test_nothing_outlives_a_killed_supervisor(run: Callable[..., Run]) -> None:
    """SIGKILL of the supervisor: web with its workers, worker and sandbox go with it."""
    stack = run()
    stack.up()
    stack.supervisor.kill()
    stack.supervisor.wait()
    wait_until(lambda: with_marker(stack.marker) == [], what="no process is left")


@pytest.mark.faults
@pytest.mark.slow
def test_ctrl_c_before_it_is_up(run: Callable[..., Run]) -> None:
    """An impatient stop is a stop."""
    stack = run()
    wait_until(lambda: stack.pid("celery"), seconds=START_SECONDS)
    assert stack.interrupt() == 130
    assert with_marker(stack.marker) == []


@pytest.mark.faults
@pytest.mark.services
@pytest.mark.slow
def test_with_a_real_broker_there_is_a_beat(run: Callable[..., Run], rabbitmq: Broker) -> None:
    """RabbitMQ in place of the embedded broker: one more process, and readiness knows."""
    stack = run(CELERY_BROKER_URL=rabbitmq.url)
    stack.up()
    beat = stack.pid("integrations_project --quiet beat")
    assert beat
    assert is_running(beat)
    assert stack.get("/readyz").json()["checks"]["broker"] == "ok"
    assert stack.interrupt() == 0


@pytest.mark.parametrize("port", ["http", "0", "-1", "65536", "99999999999999999999", "8000 ", "٨"])
def test_nonsense_for_a_port(port: str) -> None:
    """One line that names the variable, its value and what is wanted."""
    with pytest.raises(Trouble, match=f"PORT={port} is not a port: a number from 1 to 65535"):
        chosen_port(port)


def test_no_port_is_8000() -> None:
    """The default, also for an empty variable."""
    assert (chosen_port(None), chosen_port(""), chosen_port("80")) == (8000, 8000, 80)


@pytest.mark.parametrize("arguments,port", [([], "nonsense"), ([], None), (["--fast"], "8123")])
def test_trouble_is_one_line(tmp_path: Path, arguments: list[str], port: str | None) -> None:
    """A wrong port, a busy port, an argument: one line, exit 1, and nothing is made."""
    with socket.socket() as busy:
        busy.bind(("127.0.0.1", 0))
        busy.listen()
        done = subprocess.run(
            [sys.executable, "-m", "devtools.run", *arguments],
            cwd=ROOT,
            env={
                **kept(os.environ),
                "STATE_DIR": str(tmp_path / "state"),
                "PORT": port or str(busy.getsockname()[1]),
            },
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
    assert (done.returncode, done.stdout) == (1, "")
    [line] = done.stderr.splitlines()
    assert line.startswith("dev: ")
    assert not (tmp_path / "state").exists()


def test_a_wrong_setting_is_told_before_anything_starts(tmp_path: Path) -> None:
    """What the system checks find ends the start; no traceback, no restart loop."""
    done = subprocess.run(
        [sys.executable, "-m", "devtools.run"],
        cwd=ROOT,
        env={
            **kept(os.environ),
            "STATE_DIR": str(tmp_path),
            "PORT": str(free_port()),
            "DATABASE_URL": "oracle://nowhere/none",
        },
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 1
    assert "DATABASE_URL must begin with postgres:// or sqlite:///" in done.stderr
    assert "Traceback" not in done.stderr
    assert "starting again" not in done.stdout


def test_one_stack_for_each_folder(tmp_path: Path) -> None:
    """Two sandboxes behind one set of rows would contradict each other."""
    with only_one(state=tmp_path, running=Running(port=1, sandbox_port=None)):
        second = only_one(state=tmp_path, running=Running(port=2, sandbox_port=None))
        with pytest.raises(Trouble, match="is up already"), second:
            pytest.fail("two stacks at once")
    with only_one(state=tmp_path, running=Running(port=2, sandbox_port=None)):
        assert find_running(state=tmp_path) == Running(port=2, sandbox_port=None)


def test_only_a_running_stack_is_found(tmp_path: Path) -> None:
    """What a stack wrote down does not outlive it, whatever it died of."""
    running = Running(port=8000, sandbox_port=9000)
    assert find_running(state=tmp_path) is None
    with only_one(state=tmp_path, running=running):
        assert find_running(state=tmp_path) == running
    assert json.loads((tmp_path / "run.json").read_text())["port"] == 8000
    assert find_running(state=tmp_path) is None


def test_a_real_key_is_not_replaced(tmp_path: Path) -> None:
    """With a Stripe account there is no sandbox, and nothing of it in the environment."""
    caller = {"STATE_DIR": str(tmp_path), "STRIPE_SECRET_KEY": "sk_test_mine"}
    environment = complete_environment(caller, port=8000, sandbox_port=None)
    assert environment["STRIPE_SECRET_KEY"] == "sk_test_mine"
    assert "STRIPE_API_BASE" not in environment
    assert "STRIPE_WEBHOOK_SECRET_FILE" not in environment


def test_the_sandbox_plays_the_providers_of_messages(tmp_path: Path) -> None:
    """All of them, with what verifies their webhooks; the same at the next start."""
    caller = {"STATE_DIR": str(tmp_path)}
    first = complete_environment(caller, port=8000, sandbox_port=9000)
    assert first["EMAIL_ROUTE"].startswith("sendgrid,mailgun")
    assert first["MAILGUN_API_BASE"] == "http://127.0.0.1:9000/mailgun"
    assert first["RESEND_WEBHOOK_SECRETS"].startswith("whsec_")
    again = complete_environment(caller, port=8000, sandbox_port=9000)
    assert again["SENDGRID_WEBHOOK_PUBLIC_KEYS"] == first["SENDGRID_WEBHOOK_PUBLIC_KEYS"]
    assert (tmp_path / "secrets" / "tracking.json").stat().st_mode & 0o777 == 0o600


def test_a_real_provider_of_messages_is_not_replaced(tmp_path: Path) -> None:
    """Who has one sends with it, and with nobody else."""
    caller = {"STATE_DIR": str(tmp_path), "POSTMARK_SERVER_TOKEN": "mine"}
    environment = complete_environment(caller, port=8000, sandbox_port=9000)
    assert environment["POSTMARK_SERVER_TOKEN"] == "mine"
    assert not {"EMAIL_ROUTE", "SENDGRID_API_KEY", "POSTMARK_API_BASE"} & environment.keys()


@pytest.mark.parametrize("name", ["PUBLIC_URL", "ALLOWED_HOSTS", "DEBUG", "SECRET_KEY"])
def test_the_callers_variables_win(tmp_path: Path, name: str) -> None:
    """What is set is not set again."""
    caller = {"STATE_DIR": str(tmp_path), name: "theirs"}
    environment = complete_environment(caller, port=8000, sandbox_port=9000)
    assert environment[name] == "theirs"
    assert f"{name}_FILE" not in environment
