"""What the kernel says about processes, read from /proc."""

from __future__ import annotations

from pathlib import Path


def is_running(pid: int) -> bool:
    """True for a process that has not ended; a zombie has."""
    return _status(pid)[0] not in {"Z", "X"}


def in_session(leader: int) -> list[int]:
    """Every running process of the session that `leader` began."""
    return [pid for pid in _pids() if _status(pid)[3] == str(leader) and is_running(pid)]


def with_marker(marker: str) -> list[int]:
    """Every running process that has `marker` in its environment."""
    return [pid for pid in _pids() if marker.encode() in _environment(pid) and is_running(pid)]


def command_line(pid: int) -> str:
    """The program and its arguments, separated by spaces."""
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode().strip()
    except OSError:
        return ""


def _pids() -> list[int]:
    return [int(entry.name) for entry in Path("/proc").iterdir() if entry.name.isdigit()]


def _status(pid: int) -> list[str]:
    """State, parent, group, session, ... (proc(5), after the name in brackets)."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return ["X", "", "", ""]


def _environment(pid: int) -> bytes:
    try:
        return Path(f"/proc/{pid}/environ").read_bytes()
    except OSError:
        return b""
