"""`./dev run`: the whole stack on this machine, until Ctrl-C."""

from __future__ import annotations

import errno
import http.client
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Mapping
from types import FrameType

from devtools.environment import (
    HOST,
    celery_command,
    has,
    has_real_broker,
    has_stripe,
    sandbox_command,
    sandbox_environment,
    stack_environment,
    state_folder,
    web_command,
)
from devtools.message_providers import has_message_provider
from devtools.running import Running, only_one
from devtools.stack import ROOT, Stack, print_line
from devtools.trouble import Trouble, exit_status

DEFAULT_PORT = 8000
READY_SECONDS = 60.0
FALSE_STARTS = 3
POLL_SECONDS = 0.2
INTERRUPTED = 130


def main(arguments: list[str]) -> int:
    """Returns when all has stopped again: 0 once it was up, 130 when asked to stop before."""
    if arguments:
        raise Trouble("run takes no arguments; PORT=8001 ./dev run chooses another port")
    port = chosen_port(os.environ.get("PORT"))
    check_free(port)
    sandbox_port = None if has_stripe(os.environ) else free_port()
    environment = complete_environment(os.environ, port=port, sandbox_port=sandbox_port)
    stack = build_stack(environment, port=port, sandbox_port=sandbox_port)
    asked = stop_on_signals(stack)
    running = Running(port=port, sandbox_port=sandbox_port)
    with only_one(state=state_folder(environment), running=running), stack:
        password = prepare(environment, asked)
        stack.start()
        wait_until_up(stack, port=port, asked=asked)
        if asked.is_set():
            return INTERRUPTED
        announce(
            port=port,
            sandbox_port=sandbox_port,
            password=password,
            plays_messages=not has_message_provider(os.environ),
        )
        asked.wait()
        print_line("dev", "stopping; Ctrl-C again kills what is left")
        # Calls on their way out may still need their provider.
        stack.stop(*(name for name in stack.names if name != "sandbox"))
    return 0


def complete_environment(
    caller: Mapping[str, str], *, port: int, sandbox_port: int | None
) -> dict[str, str]:
    """The environment of every process: the caller's, and what it leaves open."""
    environment = stack_environment(caller=caller)
    if not has(environment, "PUBLIC_URL"):
        environment["PUBLIC_URL"] = f"http://{HOST}:{port}"
        environment.setdefault("ALLOWED_HOSTS", f"{HOST},localhost")
    if sandbox_port:
        environment |= sandbox_environment(environment, port=sandbox_port)
    return environment


def chosen_port(text: str | None) -> int:
    """PORT as a number, 8000 when it is not given."""
    if not text:
        return DEFAULT_PORT
    if text.isascii() and text.isdigit() and len(text) <= len("65535") and 0 < int(text) <= 65535:
        return int(text)
    raise Trouble(f"PORT={text} is not a port: a number from 1 to 65535")


def check_free(port: int) -> None:
    """Raises Trouble when nobody, or not we, may listen there."""
    with socket.socket() as listener:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            listener.bind((HOST, port))
        except OSError as error:
            if error.errno == errno.EADDRINUSE:
                raise Trouble(f"port {port} is in use; PORT=8001 ./dev run uses another") from None
            raise Trouble(f"cannot listen on port {port}: {error.strerror}") from error


def free_port() -> int:
    """A port that nobody listens on now."""
    with socket.socket() as listener:
        listener.bind((HOST, 0))
        port: int = listener.getsockname()[1]
        return port


def build_stack(environment: Mapping[str, str], *, port: int, sandbox_port: int | None) -> Stack:
    """Web and worker; beat with a real broker; the sandbox where there is no Stripe."""
    stack = Stack(environment=environment)
    if sandbox_port:
        command = sandbox_command(environment, port=sandbox_port, web_port=port)
        stack.add(name="sandbox", command=command)
    stack.add(name="worker", command=celery_command("--quiet", "worker"))
    if has_real_broker(environment):
        stack.add(name="beat", command=celery_command("--quiet", "beat"))
    stack.add(name="web", command=web_command(port=port))
    return stack


def stop_on_signals(stack: Stack) -> threading.Event:
    """An event for the first Ctrl-C, SIGTERM or hang-up; the second hurries the stack."""
    asked = threading.Event()

    def ask(_number: int, _frame: FrameType | None) -> None:
        if asked.is_set():
            stack.hurry()
        asked.set()

    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, ask)
    return asked


def prepare(environment: Mapping[str, str], asked: threading.Event) -> str:
    """Migrate; the new admin's password, or nothing. Leaves with the status of what failed."""
    command = [sys.executable, "-m", "devtools.prepare"]
    done = subprocess.run(
        command, cwd=ROOT, env=environment, stdout=subprocess.PIPE, text=True, check=False
    )
    if asked.is_set():
        sys.exit(INTERRUPTED)
    if done.returncode != 0:
        sys.exit(1)  # it has said why
    return done.stdout.strip()


def wait_until_up(stack: Stack, *, port: int, asked: threading.Event) -> None:
    """Until the web process answers. Raises Trouble when a process cannot be started."""
    deadline = time.monotonic() + READY_SECONDS
    while not asked.wait(POLL_SECONDS):
        for name in stack.names:
            if stack.restarts(name) >= FALSE_STARTS:
                raise Trouble(f"{name} does not start; its last lines are above")
        if answers(port):
            return
        if time.monotonic() > deadline:
            raise Trouble(f"the web process does not answer after {READY_SECONDS:.0f} s")


def answers(port: int) -> bool:
    """Whether the web process says that it lives."""
    connection = http.client.HTTPConnection(HOST, port, timeout=2)
    try:
        connection.request("GET", "/livez")
        return connection.getresponse().status == http.HTTPStatus.OK
    except (OSError, http.client.HTTPException):
        return False
    finally:
        connection.close()


def announce(*, port: int, sandbox_port: int | None, password: str, plays_messages: bool) -> None:
    """Where it is, and how to get in."""
    lines = [f"Holdfast is up: http://{HOST}:{port}/admin/"]
    if password:
        lines.append(f"Log in as admin with the password {password} (shown only this once).")
    if sandbox_port:
        address = f"http://{HOST}:{sandbox_port}"
        lines.append(f"STRIPE_SECRET_KEY is not set: the sandbox at {address} plays Stripe.")
        if plays_messages:
            shown = f"{address}/_control/messages"
            lines.append(f"It plays SendGrid and the like, too; what arrived there: {shown}")
    lines.append("Ctrl-C stops everything.")
    print("", *lines, "", sep="\n", flush=True)


if __name__ == "__main__":
    sys.exit(exit_status(main, sys.argv[1:]))
