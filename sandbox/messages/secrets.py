"""What the providers sign with, in a file: the same after a restart, and known before the start."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

from sandbox.fields import BadInput
from sandbox.messages.tellings import TELLINGS, demand_secrets


def kept_secrets(file: Path) -> dict[str, str]:
    """The secret of each provider that signs; made up now for those that the file does not have.
    Raises OSError, and BadInput for a file that is none of ours."""
    known = _read(file)
    missing = TELLINGS.keys() - known.keys()
    if missing:
        known |= {name: TELLINGS[name].new_secret() for name in sorted(missing)}
        with os.fdopen(os.open(file, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w") as out:
            json.dump(known, out, indent=1)
    return known


def proofs(secrets: dict[str, str]) -> dict[str, str]:
    """What a receiver verifies each provider's signature with."""
    return {name: TELLINGS[name].proof(secret) for name, secret in secrets.items()}


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
