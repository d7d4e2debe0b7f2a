"""What the demo is played on: a stack of its own, prepared and with a key to its API."""

from __future__ import annotations

import io
import os
import secrets
import subprocess
import sys
import threading
from pathlib import Path
from typing import IO

from devtools.environment import HOST, celery_command, web_command
from devtools.local_secrets import local_secrets
from devtools.stack import ROOT, Stack
from devtools.trouble import Trouble

KEPT_VARIABLES = ("PATH", "HOME", "LANG", "LC_ALL", "TZ", "TMPDIR")
SCOPES = ("payments:write", "notifications:write", "calls:read", "calls:write")
WAITS = {
    "RETRY_SCHEDULE": "0.5,1,1,1,2,2,2,3,3,3,5,5",
    "LEASE_SECONDS": "16",
    "SWEEP_SECONDS": "1",
    "WORKER_CONCURRENCY": "8",
    "RETRY_BUDGET_FLOOR": "200",
    "BREAKER_WINDOW": "5",
    "BREAKER_OPEN_SECONDS": "2",
    "BREAKER_SUCCESSES": "2",
    "BREAKER_RAMP_STEP": "0.5",
    "CATCH_UP": "0",  # it would be a call more
}


def demo_environment(folder: Path, *, port: int) -> dict[str, str]:
    """The embedded default, whatever the caller has set, with short waits."""
    return {
        **{name: os.environ[name] for name in KEPT_VARIABLES if name in os.environ},
        "DEBUG": "1",
        "LOG_LEVEL": "WARNING",
        "PYTHONUNBUFFERED": "1",
        "REMAP_SIGTERM": "SIGQUIT",
        "STATE_DIR": str(folder),
        "PUBLIC_URL": f"http://{HOST}:{port}",
        "STRIPE_SECRET_KEY": "sk_test_demo",
        "GITHUB_WEBHOOK_SECRETS": secrets.token_hex(16),
        "SLACK_SIGNING_SECRETS": secrets.token_hex(16),
        **WAITS,
        **local_secrets(
            state=folder,
            environment={},
            names=("SECRET_KEY", "FIELD_ENCRYPTION_KEYS", "STRIPE_WEBHOOK_SECRET"),
        ),
    }


def build_stack(environment: dict[str, str], log: IO[str], *, port: int) -> Stack:
    """Web and worker, whose words go to a file."""
    lock = threading.Lock()

    def write(name: str, line: str) -> None:
        with lock:
            if not log.closed:
                log.write(f"{name:<8}| {line}\n")
                log.flush()

    stack = Stack(environment=environment, write=write)
    stack.add(name="worker", command=celery_command("worker"))
    stack.add(name="web", command=web_command(port=port))
    return stack


def prepare(environment: dict[str, str]) -> str:
    """Migrate, and make the admin user; its password."""
    done = subprocess.run(
        [sys.executable, "-m", "devtools.prepare"],
        cwd=ROOT,
        env=environment,
        stdout=subprocess.PIPE,
        text=True,
        check=False,
    )
    if done.returncode:
        raise Trouble("the database could not be prepared; see above")
    return done.stdout.strip()


def make_key() -> str:
    """A key to the HTTP API, by the command that prints one."""
    from django.core.management import call_command

    printed = io.StringIO()
    scopes = [f"--scope={scope}" for scope in SCOPES]
    call_command("create_api_client", "demo", *scopes, stdout=printed)
    return printed.getvalue().strip()
