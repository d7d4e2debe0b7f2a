"""compose.yaml and Dockerfile, held against the settings and commands that they name."""

from __future__ import annotations

import fnmatch
import importlib.util
import re
import shlex
from pathlib import Path
from typing import Any

import pytest
import yaml
from django.apps import apps
from django.conf import settings
from django.core.management import get_commands
from django.test import Client

from integrations_project.environment import Environment
from outbound.policy import Policy

ROOT = Path(__file__).resolve().parents[2]
COMPOSE: dict[str, Any] = yaml.safe_load((ROOT / "compose.yaml").read_text())
DOCKERFILE = (ROOT / "Dockerfile").read_text()
SERVICES: dict[str, dict[str, Any]] = COMPOSE["services"]
OURS = ("migrate", "web", "worker", "beat")
LONG_RUNNING = ("web", "worker", "beat")
BACKING = ("postgres", "rabbitmq")
WORDS = {"POSTGRES_PASSWORD": "secret1", "RABBITMQ_PASSWORD": "secret2"}


def instructions(name: str) -> list[str]:
    """The arguments of each Dockerfile instruction of that name, continued lines joined."""
    joined = re.sub(r"\\\n(?:\s*#.*\n)*", " ", DOCKERFILE)
    return re.findall(rf"^{name}\s+(.*)$", joined, re.MULTILINE)


def interpolated(text: str) -> str:
    """As compose fills in variables, with WORDS as the environment."""

    def value(match: re.Match[str]) -> str:
        name, _, default = match[1].partition(":-")
        return WORDS.get(name.partition(":?")[0], default)

    return re.sub(r"(?<!\$)\$\{([^}]+)\}", value, str(text)).replace("$$", "$")


def environment(service: str) -> dict[str, str]:
    return {name: interpolated(value) for name, value in SERVICES[service]["environment"].items()}


def seconds(text: str) -> float:
    match = re.fullmatch(r"(\d+)(s|m)", text)
    assert match, text
    return int(match[1]) * {"s": 1, "m": 60}[match[2]]


def commands(service: str) -> list[list[str]]:
    """The programs that a service runs, one after the other."""
    command: list[str] = SERVICES[service]["command"]
    if command[:2] != ["sh", "-c"]:
        return [command]
    return [shlex.split(part) for part in command[2].split("&&")]


def test_every_process_of_the_design_is_there() -> None:
    """Web, worker, beat, a one-shot migration, the database, the broker; nothing else."""
    assert set(SERVICES) == {*OURS, *BACKING}


@pytest.mark.parametrize("service", OURS)
def test_each_command_exists(service: str) -> None:
    """A typo would first be met by whoever deploys."""
    from celery.bin.celery import celery  # loads all that its commands need

    for command in commands(service):
        match command:
            case ["python", "manage.py", name, *_]:
                assert name in get_commands()
            case ["gunicorn", *_, module]:
                assert importlib.util.find_spec(module)
            case ["celery", "-A", app, name]:
                assert importlib.util.find_spec(app)
                assert name in celery.commands
            case _:
                pytest.fail(f"unknown command {command}")


def test_the_migration_prepares_database_and_broker() -> None:
    """Rows before processes; exchanges and queues before messages."""
    names = [command[2] for command in commands("migrate")]
    assert names == ["migrate", "setup_broker"]
    assert SERVICES["migrate"]["restart"] == "no"


@pytest.mark.parametrize("service", OURS)
def test_settings_read_each_variable(service: str) -> None:
    """A variable that nobody reads is a setting that silently does nothing."""
    known = set(settings.ENVIRONMENT.names)
    known |= {f"{name}_FILE" for name in settings.ENVIRONMENT.secret_names}
    assert set(environment(service)) <= known


@pytest.mark.parametrize("service", OURS)
def test_settings_accept_each_value(service: str) -> None:
    """The addresses that compose builds are ones that settings take."""
    given = Environment(environment(service))
    assert given.flag("DEBUG", default=True) is False
    assert given.broker_url("CELERY_BROKER_URL", default="").startswith("amqp://")
    assert given.url("PUBLIC_URL")
    assert given.secret("DATABASE_URL").startswith("postgres://")
    assert given.problems == []


def test_addresses_agree_with_the_servers() -> None:
    """User, password, host and database are the ones that the servers are made with."""
    urls = environment("web")
    postgres, rabbitmq = environment("postgres"), environment("rabbitmq")
    assert urls["DATABASE_URL"] == (
        f"postgres://{postgres['POSTGRES_USER']}:{postgres['POSTGRES_PASSWORD']}"
        f"@postgres:5432/{postgres['POSTGRES_DB']}"
    )
    assert urls["CELERY_BROKER_URL"] == (
        f"amqp://{rabbitmq['RABBITMQ_DEFAULT_USER']}:{rabbitmq['RABBITMQ_DEFAULT_PASS']}"
        "@rabbitmq:5672//"
    )


@pytest.mark.parametrize("service", OURS)
def test_the_grace_is_longer_than_the_work(service: str) -> None:
    """SIGTERM starts the soft shutdown; SIGKILL comes only after every call could end."""
    grace = seconds(SERVICES[service]["stop_grace_period"])
    assert grace > settings.CELERY_WORKER_SOFT_SHUTDOWN_TIMEOUT + Policy().total_timeout


def test_sigterm_is_the_soft_shutdown() -> None:
    """Celery's SIGTERM waits without a bound unless it is mapped to the soft shutdown."""
    assert instructions("STOPSIGNAL") == ["SIGTERM"]
    assert "REMAP_SIGTERM=SIGQUIT" in instructions("ENV")[-1].split()
    assert Policy().total_timeout <= settings.CELERY_WORKER_SOFT_SHUTDOWN_TIMEOUT


@pytest.mark.parametrize("service", OURS)
def test_the_root_file_system_is_read_only(service: str) -> None:
    """Only /tmp can be written, and what is kept goes there."""
    definition = SERVICES[service]
    assert definition["read_only"] is True
    assert definition["tmpfs"] == ["/tmp"]
    assert "volumes" not in definition
    assert definition["cap_drop"] == ["ALL"]
    assert definition["security_opt"] == ["no-new-privileges:true"]
    assert environment("beat")["BEAT_SCHEDULE"].startswith("/tmp/")
    assert "STATE_DIR=/tmp" in instructions("ENV")[-1].split()


def test_nobody_runs_as_root() -> None:
    """The image's last word on its user is a number above the system's own."""
    user = instructions("USER")[-1].partition(":")[0]
    assert int(user) >= 1000
    assert not any("user" in SERVICES[service] for service in OURS)


@pytest.mark.parametrize("service", [*LONG_RUNNING, *BACKING])
def test_each_long_running_process_has_a_health_check(service: str) -> None:
    """A check ends before the next one starts."""
    check = SERVICES[service]["healthcheck"]
    assert check["test"][0] in {"CMD", "CMD-SHELL"}
    assert seconds(check["timeout"]) <= max(seconds(check["interval"]), 15)


def test_the_web_check_asks_the_readiness_probe() -> None:
    """On the port that gunicorn listens on and that is published."""
    check = SERVICES["web"]["healthcheck"]["test"][-1]
    compile(check, "health check", "exec")
    [path] = re.findall(r'"GET", "([^"]+)"', check)
    assert path == "/readyz"
    assert Client().get(path, headers={"host": "127.0.0.1:8000"}).status_code != 404
    bound = commands("web")[0][2]
    assert bound.partition(":")[2] == "8000"
    assert '"127.0.0.1", 8000' in check
    assert SERVICES["web"]["ports"] == ["127.0.0.1:${PORT:-8000}:8000"]
    assert instructions("EXPOSE") == ["8000"]


def test_the_worker_check_is_a_celery_command() -> None:
    """It asks one worker, not all of them."""
    command = shlex.split(interpolated(SERVICES["worker"]["healthcheck"]["test"][-1]))
    assert command[:5] == ["celery", "-A", "integrations_project", "inspect", "ping"]
    assert command[command.index("--destination") + 1] == "celery@$HOSTNAME"


@pytest.mark.parametrize("service", LONG_RUNNING)
def test_nothing_starts_before_the_migration_is_done(service: str) -> None:
    """And the servers it needs answer."""
    conditions = {
        name: needed["condition"] for name, needed in SERVICES[service]["depends_on"].items()
    }
    assert conditions == {
        "migrate": "service_completed_successfully",
        "postgres": "service_healthy",
        "rabbitmq": "service_healthy",
    }


def test_what_must_last_is_on_named_volumes() -> None:
    """The database's and the broker's folders survive `docker compose down`."""
    for service in BACKING:
        [volume] = SERVICES[service]["volumes"]
        assert volume.partition(":")[0] in COMPOSE["volumes"]


def test_images_are_pinned() -> None:
    """A version in every tag."""
    images = [SERVICES[service]["image"] for service in BACKING]
    images += [argument.split()[0] for argument in instructions("FROM")]
    for image in images:
        assert re.search(r":\d+(\.\d+)?", image), image


def test_packages_come_from_the_hashed_lock() -> None:
    """The image holds what the tests ran with, and nothing else."""
    installs = [line for line in instructions("RUN") if "pip install" in line]
    assert len(installs) == 1
    assert "--require-hashes" in installs[0]
    assert "requirements/run.lock /run.lock" in instructions("COPY")


def test_the_image_holds_every_app_and_no_secret() -> None:
    """All our apps are copied; nothing outside the list gets into the build at all."""
    copied = {argument.split()[0] for argument in instructions("COPY")}
    folders = {Path(app.path) for app in apps.get_app_configs()}
    ours = {folder.name for folder in folders if folder.parent == ROOT}
    assert ours <= copied
    sources = [
        source
        for argument in instructions("COPY")
        if not argument.startswith("--from")
        for source in argument.split()[:-1]
    ]
    rules = [line for line in ignore_rules() if not line.startswith("**/")]
    assert rules[0] == "*"
    allowed = {rule.removeprefix("!") for rule in rules[1:]}
    assert allowed == set(sources)
    for source in sources:
        assert (ROOT / source).exists(), source
    for kept_out in (".env", "var/secrets/SECRET_KEY", ".git/config", "tests/house"):
        assert not any(fnmatch.fnmatch(kept_out, f"{rule}*") for rule in allowed)


def ignore_rules() -> list[str]:
    lines = (ROOT / ".dockerignore").read_text().splitlines()
    return [line for line in lines if line and not line.startswith("#")]
