"""Secrets for a stack on this machine: made once, kept as files that only their owner reads."""

from __future__ import annotations

import base64
import os
import secrets
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path

from devtools.trouble import Trouble


def _encryption_key() -> str:
    return base64.urlsafe_b64encode(secrets.token_bytes(32)).decode()


def _webhook_secret() -> str:
    return f"whsec_{secrets.token_urlsafe(32)}"


MAKERS: dict[str, Callable[[], str]] = {
    "SECRET_KEY": lambda: secrets.token_urlsafe(50),
    "FIELD_ENCRYPTION_KEYS": _encryption_key,
    "STRIPE_WEBHOOK_SECRET": _webhook_secret,
}
ALWAYS = ("SECRET_KEY", "FIELD_ENCRYPTION_KEYS")


def local_secrets(
    *, state: Path, environment: Mapping[str, str], names: tuple[str, ...] = ALWAYS
) -> dict[str, str]:
    """NAME_FILE variables for those secrets that `environment` does not bring itself.

    Each value is made on first use and kept in `state`/secrets/NAME. Raises Trouble when that
    folder cannot be written or read.
    """
    return {
        f"{name}_FILE": str(_kept(name, state / "secrets"))
        for name in names
        if not environment.get(name) and not environment.get(f"{name}_FILE")
    }


def _kept(name: str, folder: Path) -> Path:
    path = folder / name
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        if not path.exists():
            _keep(path, MAKERS[name]())
        path.read_bytes()
    except OSError as error:
        raise Trouble(f"cannot keep secrets in {folder}: {error.strerror}") from error
    return path


def _keep(path: Path, value: str) -> None:
    """Whole or not at all; when two start at once, both use the one that came first."""
    draft = path.with_name(f".{path.name}.{secrets.token_hex(8)}")
    try:
        descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(descriptor, "w", encoding="ascii") as file:
            file.write(value)
        with suppress(FileExistsError):
            os.link(draft, path)
    finally:
        draft.unlink(missing_ok=True)
