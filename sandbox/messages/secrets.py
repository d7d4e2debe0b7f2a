"""What the providers sign with, in a file: the same after a restart, and known before the start."""

from __future__ import annotations

import json
import os
from contextlib import suppress
from pathlib import Path
from secrets import token_hex
from typing import Any

from sandbox.fields import BadInput
from sandbox.messages.tellings import TELLINGS, demand_secrets


def kept_secrets(file: Path) -> dict[str, str]:
    """The secret of each provider that signs; made up now for those that the file does not have.
    Raises OSError, and BadInput for a file that is none of ours."""
    known = _read(file)
    missing = TELLINGS.keys() - known.keys()
    if missing:
        _keep(file, known | {name: TELLINGS[name].new_secret() for name in sorted(missing)})
        return _read(file)
    return known


def proofs(secrets: dict[str, str]) -> dict[str, str]:
    """What a receiver verifies each provider's signature with."""
    return {name: TELLINGS[name].proof(secret) for name, secret in secrets.items()}


def _keep(file: Path, secrets: dict[str, str]) -> None:
    """Whole or not at all; when two start at once, both use what came first."""
    draft = file.with_name(f".{file.name}.{token_hex(8)}")
    try:
        with os.fdopen(os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as out:
            json.dump(secrets, out, indent=1)
        if file.exists():
            draft.replace(file)
        else:
            with suppress(FileExistsError):
                os.link(draft, file)
    finally:
        draft.unlink(missing_ok=True)


def _read(file: Path) -> dict[str, str]:
    try:
        document: Any = json.loads(file.read_text("ascii"))
    except FileNotFoundError:
        return {}
    except ValueError as error:
        raise BadInput(f"{file} is no file of secrets") from error
    if not isinstance(document, dict) or not all(isinstance(s, str) for s in document.values()):
        raise BadInput(f"{file} is no file of secrets")
    known = {name: secret for name, secret in document.items() if name in TELLINGS}
    for name, secret in known.items():
        demand_secrets(name, [secret])
    return known
