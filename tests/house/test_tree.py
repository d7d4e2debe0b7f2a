"""Rules of the house that no linter knows."""

from __future__ import annotations

import ast
import io
import re
import sys
import tokenize
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
APPS = ("outbound", "webhooks", "payments", "api", "integrations_project")
PROVIDERS = re.compile(
    r"stripe|sendgrid|mailgun|twilio|postmark|resend|firebase|fcm", re.IGNORECASE
)


def sources(*folders: str) -> list[Path]:
    return [path for folder in folders for path in sorted((ROOT / folder).rglob("*.py"))]


def imported(path: Path) -> set[str]:
    """The top-level packages that a file imports."""
    names: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            names |= {alias.name.partition(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            names.add(node.module.partition(".")[0])
    return names


def words(path: Path) -> str:
    """A file's names and texts, without its comments and docstrings."""
    tree = ast.parse(path.read_text())
    docstrings = {
        id(node.body[0].value)
        for node in ast.walk(tree)
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef)
        and ast.get_docstring(node, clean=False) is not None
        and isinstance(node.body[0], ast.Expr)
    }
    found = [
        node.value
        for node in ast.walk(tree)
        if isinstance(node, ast.Constant) and isinstance(node.value, str)
        if id(node) not in docstrings
    ]
    tokens = tokenize.generate_tokens(io.StringIO(path.read_text()).readline)
    found += [token.string for token in tokens if token.type == tokenize.NAME]
    return "\n".join(found)


@pytest.mark.parametrize("path", sources("sandbox"), ids=lambda path: path.name)
def test_the_sandbox_needs_nothing_but_python(path: Path) -> None:
    """It can be started anywhere, and shares no mistake with what it tests. Only the keys of who
    signs with a private one come from a library."""
    signs = path.parent.name == "tracking" and path.name in ("keys.py", "sendgrid.py", "ses.py")
    allowed = {"sandbox", "cryptography"} if signs else {"sandbox"}
    assert imported(path) <= {*sys.stdlib_module_names, *allowed}


def test_the_outbound_engine_knows_no_provider() -> None:
    """A new provider changes no engine file: none of them names one."""
    named = {path.name for path in sources("outbound") if PROVIDERS.search(words(path))}
    assert named == set()


def test_every_package_can_be_imported_as_one() -> None:
    """A folder of modules without __init__.py is invisible to mypy and import-linter."""
    for folder in (*APPS, "sandbox", "devtools", "bench", "examples"):
        for path in sources(folder):
            assert (path.parent / "__init__.py").exists(), path


def test_no_stub_is_left() -> None:
    """What is not built is not in the tree."""
    stub = re.compile(r"raise NotImplementedError|\b(TODO|FIXME|XXX)\b")
    found = [
        f"{path.relative_to(ROOT)}:{number}: {line}"
        for path in [
            *sources(*APPS, "sandbox", "devtools", "bench", "examples"),
            ROOT / "dev",
            ROOT / ".ci/run",
        ]
        for number, line in enumerate(path.read_text().splitlines(), start=1)
        if stub.search(line)
    ]
    assert found == []
