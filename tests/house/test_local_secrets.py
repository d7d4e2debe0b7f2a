"""Secrets of a stack on this machine."""

from __future__ import annotations

import stat
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from cryptography.fernet import Fernet

from devtools.local_secrets import MAKERS, local_secrets
from devtools.trouble import Trouble

NAMES = tuple(MAKERS)


def test_made_once(tmp_path: Path) -> None:
    """The second start finds the values of the first: rows stay readable, sessions valid."""
    first = local_secrets(state=tmp_path, environment={}, names=NAMES)
    values = {name: Path(path).read_text() for name, path in first.items()}
    again = local_secrets(state=tmp_path, environment={}, names=NAMES)
    assert first == again
    assert values == {name: Path(path).read_text() for name, path in again.items()}


def test_two_machines_have_different_secrets(tmp_path: Path) -> None:
    """Nothing is built in."""
    made = [local_secrets(state=tmp_path / folder, environment={}, names=NAMES) for folder in "ab"]
    for name in NAMES:
        one, other = (Path(paths[f"{name}_FILE"]).read_text() for paths in made)
        assert one != other


def test_only_their_owner_reads_them(tmp_path: Path) -> None:
    """Files 0600 in a folder 0700."""
    for path in local_secrets(state=tmp_path, environment={}, names=NAMES).values():
        assert stat.S_IMODE(Path(path).stat().st_mode) == 0o600
        assert stat.S_IMODE(Path(path).parent.stat().st_mode) == 0o700


def test_an_encryption_key_encrypts(tmp_path: Path) -> None:
    """What is made for FIELD_ENCRYPTION_KEYS is a Fernet key."""
    made = local_secrets(state=tmp_path, environment={})
    key = Path(made["FIELD_ENCRYPTION_KEYS_FILE"]).read_text()
    assert Fernet(key).decrypt(Fernet(key).encrypt(b"row")) == b"row"


@pytest.mark.parametrize("variable", ["SECRET_KEY", "SECRET_KEY_FILE"])
def test_the_callers_own_secret_wins(tmp_path: Path, variable: str) -> None:
    """What the environment brings is not made, and not hidden by a file."""
    made = local_secrets(state=tmp_path, environment={variable: "theirs"})
    assert set(made) == {"FIELD_ENCRYPTION_KEYS_FILE"}
    assert not (tmp_path / "secrets/SECRET_KEY").exists()


def test_two_starts_at_once_agree(tmp_path: Path) -> None:
    """Whoever comes second uses what the first made."""
    with ThreadPoolExecutor(16) as pool:
        starts = [
            pool.submit(local_secrets, state=tmp_path / "new", environment={}) for _ in range(64)
        ]
    keys = {Path(start.result()["SECRET_KEY_FILE"]).read_text() for start in starts}
    assert len(keys) == 1
    assert "" not in keys
    assert sorted(path.name for path in (tmp_path / "new/secrets").iterdir()) == [
        "FIELD_ENCRYPTION_KEYS",
        "SECRET_KEY",
    ]


def test_a_folder_that_cannot_be_written(tmp_path: Path) -> None:
    """One line that names the folder."""
    (tmp_path / "secrets").write_text("in the way")
    with pytest.raises(Trouble, match="cannot keep secrets in"):
        local_secrets(state=tmp_path, environment={})
