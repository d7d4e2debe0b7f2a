"""`./dev demo`: the main job on the embedded default, with faults, a killed worker and a ledger.

Everything is real: a web process, a worker and a provider of their own, started from nothing in
var/demo. The exit status is 0 only if the provider's ledger and our rows agree.
"""

from __future__ import annotations

import os
import shutil
import sys
import time
from pathlib import Path
from typing import IO

from devtools.api_client import ApiClient
from devtools.demo.other_sources import compare_sources, events_ended, send_to_other_sources
from devtools.demo.payments import Payments
from devtools.demo.receipts import Receipts
from devtools.demo.stage import build_stack, demo_environment, make_key, prepare
from devtools.demo.words import print_table, say, wait_for
from devtools.environment import HOST, state_folder
from devtools.message_providers import message_environment, secrets_file
from devtools.run import answers, free_port, stop_on_signals
from devtools.trouble import Trouble, exit_status
from sandbox.control import Sandbox
from sandbox.process import SandboxError


def main(arguments: list[str]) -> int:
    """0 when every assertion holds."""
    if set(arguments) - {"--keep"}:
        raise Trouble("usage: ./dev demo [--keep]")
    began = time.monotonic()
    folder = state_folder(os.environ) / "demo"
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    port = free_port()
    environment = demo_environment(folder, port=port)
    web = f"http://{HOST}:{port}"
    try:
        with (
            Sandbox.start(
                webhook_url=f"{web}/webhooks/stripe",
                webhook_secret=Path(environment["STRIPE_WEBHOOK_SECRET_FILE"]).read_text("ascii"),
                tracking_url=web,
                tracking_secrets=secrets_file(folder),
                seed=1,
            ) as sandbox,
            Sandbox.start() as sendgrid,
            (folder / "stack.log").open("w", encoding="utf-8") as log,
        ):
            environment |= providers(sandbox, sendgrid, folder=folder)
            sandboxes = (sandbox, sendgrid)
            return show(sandboxes, environment, log, port=port, keep=bool(arguments), began=began)
    except SandboxError as error:
        raise Trouble(str(error)) from error


def providers(sandbox: Sandbox, sendgrid: Sandbox, *, folder: Path) -> dict[str, str]:
    """All in one process, but for SendGrid: that one is going to be killed."""
    return {
        "STRIPE_API_BASE": sandbox.url,
        **message_environment({}, base=sandbox.url, state=folder),
        "SENDGRID_API_BASE": f"{sendgrid.url}/sendgrid",
        "EMAIL_ROUTE": "sendgrid,mailgun",
    }


def show(
    sandboxes: tuple[Sandbox, Sandbox],
    environment: dict[str, str],
    log: IO[str],
    *,
    port: int,
    keep: bool,
    began: float,
) -> int:
    """The demo itself, once the provider is there."""
    stack = build_stack(environment, log, port=port)
    asked = stop_on_signals(stack)
    password = prepare(environment)
    os.environ.clear()
    os.environ.update(environment, DJANGO_SETTINGS_MODULE="integrations_project.settings")
    import django

    django.setup()
    with stack:
        stack.start()
        wait_for(lambda: answers(port), "the web process to answer")
        sandbox, sendgrid = sandboxes
        api = ApiClient(base=f"http://{HOST}:{port}", key=make_key())
        payments, receipts = Payments(sandbox, stack, api), Receipts(sandbox, sendgrid, api)
        payments.play()
        receipts.play()
        others = send_to_other_sources(api.host)
        wait_for(events_ended, "every event to be handled")
        table, broken = [], []
        for rows, untrue in (payments.compare(), receipts.compare(), compare_sources(others)):
            table += rows
            broken += untrue
        print_table(table, took=time.monotonic() - began)
        for line in broken:
            print(f"NOT SO: {line}")
        if keep:
            say(f"\nThe stack stays up: http://{HOST}:{port}/admin/  (admin / {password})")
            say("Ctrl-C stops everything.")
            asked.wait()
        stack.stop()
    if broken:
        raise Trouble(f"{len(broken)} of the demo's assertions do not hold; see {log.name}")
    return 0


if __name__ == "__main__":
    sys.exit(exit_status(main, sys.argv[1:]))
