"""The program: how it starts, says so, and ends."""

from __future__ import annotations

import json
import signal
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from sandbox.__main__ import main
from sandbox.control import Sandbox
from sandbox.process import ROOT, SandboxError
from tests.house.polling import wait_until
from tests.sandbox.api import Api

COMMAND = [sys.executable, "-m", "sandbox"]


def run(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [*COMMAND, *arguments], cwd=ROOT, capture_output=True, text=True, timeout=30, check=False
    )


def test_it_says_one_line_and_ends_at_sigterm() -> None:
    """Standard output is the ready line and nothing else; SIGTERM is a good end."""
    process = subprocess.Popen(
        [*COMMAND, "--port", "0"],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    line = process.stdout.readline()
    url = line.removeprefix("sandbox listening on ").strip()
    with Api(url) as api:
        assert api.pay().status == 200
        process.terminate()
        rest, errors = process.communicate(timeout=20)
    assert (process.returncode, rest, errors) == (0, "", "")
    assert line == f"sandbox listening on http://127.0.0.1:{url.rpartition(':')[2]}\n"


def test_a_hanging_request_does_not_hold_up_its_end() -> None:
    """SIGTERM means at once."""
    with Sandbox.start() as sandbox:
        sandbox.add_fault("hang")
        host, port = sandbox.url.removeprefix("http://").split(":")
        with socket.create_connection((host, int(port))) as hanging:
            hanging.sendall(b"GET /v1/events HTTP/1.1\r\nHost: x\r\n\r\n")
            wait_until(lambda: sandbox.summary()["running"] == 1)
            assert sandbox.stop() == 0


def test_a_delivery_does_not_hold_up_its_end() -> None:
    """Nor does a receiver that takes its time."""
    with Sandbox.start() as sandbox, socket.create_server(("127.0.0.1", 0)) as deaf:
        url = f"http://127.0.0.1:{deaf.getsockname()[1]}/"
        sandbox.change_webhooks(url=url, secrets=["whsec_x"], timeout=60)
        sandbox.emit_event("customer.created", {})
        connection, _ = deaf.accept()
        with connection:
            assert sandbox.stop() == 0


@pytest.mark.parametrize(
    "arguments",
    [
        [],
        ["--port", "x"],
        ["--port", "65536"],
        ["--port", "-1"],
        ["--port", "0", "--seed", "one"],
        ["--port", "0", "--unknown"],
        ["--port", "0", "extra"],
        ["--port", "0", "--webhook-url", "ftp://x/", "--webhook-secret", "s"],
        ["--port", "0", "--webhook-url", "http://x:99999/", "--webhook-secret", "s"],
        ["--port", "0", "--webhook-url", "http://x/"],
    ],
)
def test_bad_arguments(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    """One line on standard error, status 2."""
    with pytest.raises(SystemExit) as ended:
        main(arguments)
    assert ended.value.code == 2
    said = capsys.readouterr()
    assert said.out == ""
    assert said.err.startswith("sandbox: ")
    assert said.err.count("\n") == 1


def test_a_port_that_is_taken() -> None:
    """One line on standard error, status 1."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        ended = run("--port", str(taken.getsockname()[1]))
    assert ended.returncode == 1
    assert ended.stdout == ""
    assert ended.stderr.startswith("sandbox: ")
    assert ended.stderr.count("\n") == 1


def test_a_ledger_that_cannot_be_opened(tmp_path: Path) -> None:
    """One line on standard error, status 1: no provider without the ledger it was to keep."""
    ended = run("--port", "0", "--ledger", str(tmp_path / "no" / "folder"))
    assert ended.returncode == 1
    assert "no/folder" in ended.stderr
    assert ended.stderr.count("\n") == 1


def test_a_ledger_that_cannot_be_written() -> None:
    """When the disk is full the sandbox ends with a reason, and has not answered."""
    process = subprocess.Popen(
        [*COMMAND, "--port", "0", "--ledger", "/dev/full"],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    url = process.stdout.readline().removeprefix("sandbox listening on ").strip()
    with Api(url) as api, pytest.raises(OSError, match=r"reset|closed|without response"):
        api.pay()
    _, errors = process.communicate(timeout=20)
    assert process.returncode == 1
    assert errors.startswith("sandbox: the ledger's file: ")
    assert errors.count("\n") == 1


def test_the_ledger_is_written_before_the_answer(tmp_path: Path) -> None:
    """Whoever has an answer finds the effect in the file, and SIGKILL changes nothing about it."""
    file = tmp_path / "ledger"
    with Sandbox.start(ledger=file) as sandbox, Api(sandbox.url) as api:
        for number in range(20):
            intent = api.pay(key=f"k{number}").json["id"]
            assert json.loads(file.read_text().splitlines()[-1])["object"] == intent
        sandbox.kill()
    lines = [json.loads(line) for line in file.read_text().splitlines()]
    assert [line["key"] for line in lines] == [f"k{number}" for number in range(20)]


def test_a_torn_line_is_ended(tmp_path: Path) -> None:
    """What a killed process left half written does not spoil the next line."""
    file = tmp_path / "ledger"
    file.write_text('{"torn')
    with Sandbox.start(ledger=file) as sandbox, Api(sandbox.url) as api:
        intent = api.pay().json["id"]
    torn, whole = file.read_text().splitlines()
    assert torn == '{"torn'
    assert json.loads(whole)["object"] == intent


def test_it_ends_with_its_parent() -> None:
    """A sandbox that a killed test has started does not stay behind."""
    code = (
        "import time; from sandbox.control import Sandbox; "
        "print(Sandbox.start().pid, flush=True); time.sleep(600)"
    )
    parent = subprocess.Popen(
        [sys.executable, "-c", code], cwd=ROOT, stdout=subprocess.PIPE, text=True
    )
    assert parent.stdout is not None
    pid = int(parent.stdout.readline())
    parent.send_signal(signal.SIGKILL)
    parent.wait()
    parent.stdout.close()
    wait_until(lambda: not _is_alive(pid), what="the sandbox to end")


def test_one_that_does_not_start_is_told() -> None:
    """The Python client says that the sandbox ended."""
    with (
        socket.create_server(("127.0.0.1", 0)) as taken,
        pytest.raises(SandboxError, match="ended with status 1"),
    ):
        Sandbox.start(port=taken.getsockname()[1])


def test_it_can_be_frozen() -> None:
    """A frozen sandbox is there and silent, and goes on afterwards."""
    with Sandbox.start() as sandbox:
        sandbox.freeze()
        with Api(sandbox.url, timeout=0.2) as api, pytest.raises(TimeoutError):
            api.pay()
        sandbox.thaw()
        wait_until(lambda: len(sandbox.ledger()) == 1)


def _is_alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().split()[2] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False
