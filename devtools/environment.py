"""The environment and the commands of a stack on this machine."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from pathlib import Path

from devtools.local_secrets import local_secrets
from devtools.message_providers import message_environment, tracking_arguments
from devtools.stack import ROOT
from devtools.trouble import Trouble

HOST = "127.0.0.1"


def stack_environment(*, caller: Mapping[str, str]) -> dict[str, str]:
    """The caller's variables, and beside them what Holdfast needs and they do not say.

    Raises Trouble when local secrets cannot be kept.
    """
    return {
        "DEBUG": "1",
        "PYTHONUNBUFFERED": "1",
        "REMAP_SIGTERM": "SIGQUIT",  # Celery: SIGTERM is the soft shutdown
        **caller,
        **local_secrets(state=state_folder(caller), environment=caller),
    }


def state_folder(environment: Mapping[str, str]) -> Path:
    """Where this machine's state is kept."""
    return Path(environment.get("STATE_DIR") or ROOT / "var")


def has(environment: Mapping[str, str], name: str) -> bool:
    """Whether NAME or NAME_FILE is given."""
    return bool(environment.get(name) or environment.get(f"{name}_FILE"))


def has_stripe(environment: Mapping[str, str]) -> bool:
    """Whether a Stripe account or a stand-in for Stripe is named."""
    return has(environment, "STRIPE_SECRET_KEY") or has(environment, "STRIPE_API_BASE")


def has_real_broker(environment: Mapping[str, str]) -> bool:
    """Whether messages leave the worker's own memory, so that beat has someone to talk to."""
    if environment.get("CELERY_BROKER_URL_FILE"):
        return True
    return not (environment.get("CELERY_BROKER_URL") or "memory:").startswith("memory:")


def sandbox_environment(environment: Mapping[str, str], *, port: int) -> dict[str, str]:
    """What points the adapters and the webhook door at a sandbox on this machine."""
    base, state = f"http://{HOST}:{port}", state_folder(environment)
    return {
        "STRIPE_SECRET_KEY": "sk_test_sandbox",
        "STRIPE_API_BASE": base,
        **message_environment(environment, base=base, state=state),
        **local_secrets(
            state=state,
            environment=environment,
            names=("STRIPE_WEBHOOK_SECRET",),
        ),
    }


def sandbox_command(environment: Mapping[str, str], *, port: int, web_port: int) -> list[str]:
    """The providers on this machine, which send their webhooks to the web process.

    `environment`: as sandbox_environment() has completed it.
    """
    command = [sys.executable, "-m", "sandbox", "--host", HOST, "--port", str(port)]
    web = f"http://{HOST}:{web_port}"
    command += ["--webhook-url", f"{web}/webhooks/stripe"]
    command += tracking_arguments(state=state_folder(environment), web=web)
    return [*command, "--webhook-secret", _value(environment, "STRIPE_WEBHOOK_SECRET")]


def _value(environment: Mapping[str, str], name: str) -> str:
    """What NAME or NAME_FILE says. Raises Trouble when the file cannot be read."""
    if environment.get(name):
        return environment[name]
    path = environment[f"{name}_FILE"]
    try:
        return Path(path).read_text(encoding="utf-8").strip()
    except (OSError, ValueError) as error:
        raise Trouble(f"{name}_FILE={path} cannot be read: {error}") from error


def web_command(*, port: int) -> list[str]:
    """The web process, reachable from this machine only."""
    address = f"127.0.0.1:{port}"
    return [sys.executable, "-m", "gunicorn", "--bind", address, "integrations_project.wsgi"]


def celery_command(*arguments: str) -> list[str]:
    """`celery -A integrations_project ...`."""
    return [sys.executable, "-m", "celery", "-A", "integrations_project", *arguments]
