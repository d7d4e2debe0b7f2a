"""`python -m sandbox`: parse the arguments, listen, say so in one line."""

from __future__ import annotations

import argparse
import asyncio
import os
import resource
import sys
import threading
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NoReturn

from sandbox.fields import BadInput
from sandbox.journal import Unwritable
from sandbox.messages.secrets import kept_secrets
from sandbox.messages.tellings import TELLINGS
from sandbox.process import READY, SMTP
from sandbox.provider import Provider
from sandbox.server import Server
from sandbox.webhooks.policy import Endpoint

PARENT_SECONDS = 0.5


class Arguments(argparse.ArgumentParser):
    """Says what is wrong in one line."""

    def error(self, message: str) -> NoReturn:
        self.exit(2, f"sandbox: {message}\n")


def main(arguments: Sequence[str] | None = None) -> int:
    """The exit status: 0 after SIGTERM, 1 for trouble, 2 for arguments that make no sense."""
    parser = _parser()
    given = parser.parse_args(arguments)
    told = {
        name: value
        for name, value in (
            ("url", given.webhook_url),
            ("secrets", [given.webhook_secret] if given.webhook_secret else None),
        )
        if value is not None
    }
    try:
        endpoint = Endpoint().changed(told)
        tracking = _tracking(given)
    except (BadInput, OSError) as error:
        parser.error(str(error))
    if given.webhook_url and not given.webhook_secret:
        parser.error("--webhook-url needs --webhook-secret")
    _raise_file_limit()
    if given.exit_with_parent:
        _exit_with_parent()
    try:
        asyncio.run(_serve(given, endpoint, tracking))
    except (OSError, Unwritable) as error:
        print(f"sandbox: {error}", file=sys.stderr)
        return 1
    return 0


def _tracking(given: argparse.Namespace) -> dict[str, Endpoint]:
    """Where each provider of messages tells of them, and signed with what."""
    secrets = kept_secrets(given.tracking_secrets) if given.tracking_secrets else {}
    found = {}
    for name, telling in TELLINGS.items():
        told: dict[str, Any] = {}
        if given.tracking_url and name not in (given.untracked or []):
            told["url"] = given.tracking_url.rstrip("/") + telling.path
        if name in secrets:
            told["secrets"] = [secrets[name]]
        found[name] = Endpoint().changed(told)
    return found


async def _serve(
    given: argparse.Namespace, endpoint: Endpoint, tracking: Mapping[str, Endpoint]
) -> None:
    provider = Provider(seed=given.seed, endpoint=endpoint, ledger=given.ledger, tracking=tracking)
    await Server(provider).serve(
        host=given.host, port=given.port, smtp_port=given.smtp_port, ready=_say_ready
    )


def _say_ready(host: str, port: int, smtp_port: int | None) -> None:
    shown = f"[{host}]" if ":" in host else host
    mail = "" if smtp_port is None else f"{SMTP}{shown}:{smtp_port}"
    print(f"{READY}http://{shown}:{port}{mail}", flush=True)


def _parser() -> Arguments:
    parser = Arguments(
        prog="python -m sandbox",
        description="Stripe and providers of messages, on this machine.",
    )
    parser.add_argument("--port", type=_port, required=True, help="0: any free one")
    parser.add_argument("--smtp-port", type=_port, help="speak SMTP there, too; 0: any free one")
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--seed", type=int, help="makes random faults repeat themselves")
    parser.add_argument("--webhook-url", metavar="URL")
    parser.add_argument("--webhook-secret", metavar="SECRET")
    parser.add_argument(
        "--tracking-url", metavar="BASE", help="messages are told of at BASE/webhooks/PROVIDER"
    )
    parser.add_argument(
        "--tracking-secrets", type=Path, metavar="FILE", help="read, or made up and written there"
    )
    parser.add_argument(
        "--untracked", action="append", choices=TELLINGS, help="this provider tells nothing"
    )
    parser.add_argument("--ledger", type=Path, metavar="FILE", help="append effects as JSON lines")
    parser.add_argument(
        "--exit-with-parent", action="store_true", help="end when the starting process is gone"
    )
    return parser


def _port(text: str) -> int:
    if not (text.isascii() and text.isdigit() and int(text) < 2**16):
        raise argparse.ArgumentTypeError(f"{text!r} is no port")
    return int(text)


def _raise_file_limit() -> None:
    """A hanging connection is a file; there may be thousands."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = 8192 if hard == resource.RLIM_INFINITY else min(8192, hard)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))


def _exit_with_parent() -> None:
    parent = os.getppid()

    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(PARENT_SECONDS)
        os._exit(0)

    threading.Thread(target=watch, daemon=True, name="parent").start()


if __name__ == "__main__":
    sys.exit(main())
