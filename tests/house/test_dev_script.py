"""`./dev`, run by a real shell on a copy of the tree, with stand-ins for Python.

The stand-in answers the script's questions, makes a folder where it is asked for a virtual
environment, and writes down everything else that it is asked to do.
"""

from __future__ import annotations

import os
import shlex
import shutil
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from tests.house.polling import wait_until

ROOT = Path(__file__).resolve().parents[2]
TOOLS = ["sh", "dash", "bash", "cat", "cksum", "cmp", "cp", "dirname", "env", "grep", "mkdir", "mv"]
TOOLS += ["pwd", "rm", "sleep", "tail", "touch"]

PYTHON = """\
#!/bin/sh
version={version}
case "$*" in
    *"sys.version_info < "*) exit {too_old} ;;
    *"version_info[:2]"*) echo "$version" ;;
    *"import ensurepip, venv"*) exit {no_venv} ;;
    *"import fcntl"*) exec {real} "$@" ;;
    *"sys.base_prefix"*) exit 0 ;;
    "-m venv "*)
        echo "venv $version" >>"$LOG"
        mkdir -p "$3/bin" && cp "$0" "$3/bin/python"
        ;;
    "-m pip install"*)
        echo "begin $*" >>"$LOG"
        {pip}
        echo "end" >>"$LOG"
        ;;
    *)
        [ -z "${{PYTHONDONTWRITEBYTECODE-}}" ] || exit 1
        echo "ran $* DEBUG=$DEBUG PYTHONPATH=${{PYTHONPATH-}} in $(pwd)" >>"$LOG"
        {other}
        ;;
esac
"""


@dataclass
class House:
    """A copy of what ./dev reads, and the few programs it may find."""

    root: Path
    programs: Path
    log: Path
    variables: dict[str, str] = field(default_factory=dict)

    def dev(self, *arguments: str, cwd: Path | None = None) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [str(self.root / "dev"), *arguments],
            cwd=cwd or self.root,
            env=self.environment,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )

    def start(self, *arguments: str, output: Path) -> subprocess.Popen[bytes]:
        with output.open("w") as file:
            return subprocess.Popen(
                [str(self.root / "dev"), *arguments],
                cwd=self.root,
                env=self.environment,
                stdout=file,
                stderr=file,
            )

    @property
    def environment(self) -> dict[str, str]:
        return {"PATH": str(self.programs), "LOG": str(self.log), **self.variables}

    def add_python(
        self,
        name: str = "python3",
        *,
        version: str = "3.12",
        has_venv: bool = True,
        pip: str = "true",
        other: str = "true",
    ) -> None:
        program = self.programs / name
        program.write_text(
            PYTHON.format(
                version=version,
                too_old=int(tuple(map(int, version.split("."))) < (3, 11)),
                no_venv=int(not has_venv),
                real=shlex.quote(sys.executable),
                pip=pip,
                other=other,
            )
        )
        program.chmod(0o755)

    @property
    def done(self) -> list[str]:
        return self.log.read_text().splitlines() if self.log.exists() else []

    @property
    def installations(self) -> list[str]:
        return [line.rpartition("requirements/")[2] for line in self.done if "begin" in line]

    @property
    def environments_made(self) -> int:
        return sum(line.startswith("venv ") for line in self.done)


@pytest.fixture
def house(tmp_path: Path) -> House:
    root = tmp_path / "a house with spaces"
    programs = tmp_path / "programs"
    programs.mkdir(parents=True)
    for tool in TOOLS:
        found = shutil.which(tool)
        if found:
            (programs / tool).symlink_to(found)
    (root / "requirements").mkdir(parents=True)
    shutil.copy(ROOT / "dev", root / "dev")
    for lock in ("run", "test", "dev"):
        shutil.copy(ROOT / "requirements" / f"{lock}.lock", root / "requirements")
    return House(root=root, programs=programs, log=tmp_path / "log")


def refusal(done: subprocess.CompletedProcess[str]) -> str:
    """The one line of a refusal; its exit status is not zero and nothing is on standard output."""
    assert done.returncode != 0
    assert done.stdout == ""
    lines = done.stderr.splitlines()
    assert len(lines) == 1, done.stderr
    assert lines[0].startswith("dev: ")
    return lines[0]


def test_without_a_command_it_explains_itself(house: House) -> None:
    """No command: the list of commands, and a usage error."""
    done = house.dev()
    assert done.returncode == 2
    for command in ("demo", "run", "test", "lint", "bench", "manage", "lock"):
        assert f"\n  {command}" in done.stdout


def test_an_unknown_command_is_named(house: House) -> None:
    """A typo is a usage error, and makes no environment."""
    done = house.dev("rnu")
    assert done.returncode == 2
    assert "no command rnu" in done.stderr
    assert not (house.root / ".venv").exists()


def test_no_python_at_all(house: House) -> None:
    """Without any Python: one line that says what is needed."""
    assert "3.11 or newer" in refusal(house.dev("run"))


def test_python_too_old(house: House) -> None:
    """A Python below 3.11 is as good as none."""
    house.add_python(version="3.10")
    assert "3.11 or newer" in refusal(house.dev("run"))
    assert not (house.root / ".venv").exists()


def test_a_newer_python_by_another_name(house: House) -> None:
    """python3 is old, python3.13 is there: it is taken."""
    house.add_python(version="3.9")
    house.add_python("python3.13", version="3.13")
    assert house.dev("run").returncode == 0
    assert "venv 3.13" in house.done


def test_python_chosen_by_the_caller(house: House) -> None:
    """PYTHON= wins over python3 on the path."""
    house.add_python(version="3.13")
    house.add_python("special", version="3.11")
    house.variables["PYTHON"] = str(house.programs / "special")
    assert house.dev("run").returncode == 0
    assert "venv 3.11" in house.done


def test_python_chosen_by_a_relative_path(house: House, tmp_path: Path) -> None:
    """PYTHON= is relative to where the caller stands, not to the tree."""
    house.add_python("special", version="3.11")
    house.variables["PYTHON"] = "programs/special"
    assert house.dev("run", cwd=tmp_path).returncode == 0
    assert "venv 3.11" in house.done


def test_another_choice_makes_the_environment_again(house: House) -> None:
    """An environment of another Python than PYTHON= says is replaced."""
    house.add_python(version="3.13")
    house.dev("run")
    house.add_python("special", version="3.11")
    house.variables["PYTHON"] = "special"
    assert house.dev("run").returncode == 0
    assert house.environments_made == 2
    assert house.dev("run").returncode == 0
    assert house.environments_made == 2


@pytest.mark.parametrize(
    "chosen,said", [("nowhere", "not a command"), ("special", "is Python 3.10")]
)
def test_a_choice_that_cannot_be_used(house: House, chosen: str, said: str) -> None:
    """PYTHON= that is missing or old is refused by name; no other one is taken silently."""
    house.add_python()
    house.add_python("special", version="3.10")
    house.variables["PYTHON"] = chosen
    line = refusal(house.dev("run"))
    assert f"PYTHON={chosen}" in line
    assert said in line


def test_missing_venv_package_is_named(house: House) -> None:
    """Debian's Python without ensurepip: the package that brings it, for that very version."""
    house.add_python(version="3.12", has_venv=False)
    assert "apt-get install python3.12-venv" in refusal(house.dev("run"))
    assert not (house.root / ".venv").exists()


def test_a_python_that_can_make_environments_is_preferred(house: House) -> None:
    """python3 without the venv package, python3.11 with it: the latter is taken."""
    house.add_python(version="3.12", has_venv=False)
    house.add_python("python3.11", version="3.11")
    assert house.dev("run").returncode == 0
    assert "venv 3.11" in house.done


@pytest.mark.parametrize(
    "command,lock",
    [
        ("demo", "run"),
        ("run", "run"),
        ("bench", "run"),
        ("manage", "run"),
        ("test", "test"),
        ("lint", "dev"),
    ],
)
def test_each_command_has_its_lock(house: House, command: str, lock: str) -> None:
    """Hashes are required, and only what the command needs is installed."""
    house.add_python()
    house.dev(command)
    [installation] = [line for line in house.done if line.startswith("begin")]
    assert "--require-hashes" in installation
    assert house.installations == [f"{lock}.lock"]


def test_installs_once(house: House) -> None:
    """A second start installs nothing."""
    house.add_python()
    house.dev("run")
    house.dev("run")
    house.dev("manage", "check")
    assert house.installations == ["run.lock"]


def test_installs_again_when_the_lock_changed(house: House) -> None:
    """A changed lock is installed into the environment that is there."""
    house.add_python()
    house.dev("run")
    with (house.root / "requirements/run.lock").open("a") as lock:
        lock.write("# changed\n")
    house.dev("run")
    assert house.installations == ["run.lock", "run.lock"]
    assert house.environments_made == 1


def test_a_larger_installation_serves_the_smaller_commands(house: House) -> None:
    """What lint installed contains what run and test need."""
    house.add_python()
    house.dev("run")
    house.dev("lint")
    house.dev("run")
    house.dev("test")
    assert house.installations == ["run.lock", "dev.lock"]


def test_a_failed_installation_is_told_and_repaired(house: House) -> None:
    """pip fails: its last lines, one line of ours, non-zero; the next start begins afresh."""
    house.add_python(pip="echo no route to the index >&2; exit 1")
    done = house.dev("run")
    assert done.returncode == 1
    assert "no route to the index" in done.stderr
    assert "could not install requirements/run.lock" in done.stderr.splitlines()[-1]
    house.add_python()
    assert house.dev("run").returncode == 0
    assert house.environments_made == 2


def test_an_environment_killed_half_way_is_repaired(house: House) -> None:
    """SIGKILL in the middle of an installation leaves nothing that the next start trusts."""
    house.add_python(pip='kill -9 "$PPID"; exit 1')
    house.dev("run")
    house.add_python()
    assert house.dev("run").returncode == 0
    assert house.environments_made == 2


@pytest.mark.parametrize("damage", ["empty", "no python", "a file"])
def test_a_broken_environment_is_replaced(house: House, damage: str) -> None:
    """Whatever stands at .venv, an environment stands there afterwards."""
    house.add_python()
    venv = house.root / ".venv"
    if damage == "a file":
        venv.write_text("")
    else:
        venv.mkdir()
    if damage == "no python":
        (venv / "bin").mkdir()
        (venv / "bin/python").symlink_to("/nowhere/python3")
    assert house.dev("run").returncode == 0
    assert house.installations == ["run.lock"]


def test_two_at_once_install_one_after_the_other(house: House, tmp_path: Path) -> None:
    """The second waits for the first, and finds everything done."""
    go = tmp_path / "go"
    house.add_python(pip=f"while ! [ -e '{go}' ]; do sleep 0.05; done")
    outputs = [tmp_path / "one", tmp_path / "two"]
    both = [house.start("run", output=output) for output in outputs]
    wait_until(lambda: any("waiting" in output.read_text() for output in outputs))
    go.touch()
    assert [process.wait(60) for process in both] == [0, 0]
    assert house.installations == ["run.lock"]


def test_the_lock_dies_with_its_holder(house: House) -> None:
    """A first start that was killed keeps nobody waiting."""
    house.add_python(pip='kill -9 "$PPID"; exit 1')
    house.dev("run")
    house.add_python()
    done = house.dev("run")
    assert done.returncode == 0
    assert "waiting" not in done.stderr


def test_works_from_any_folder(house: House, tmp_path: Path) -> None:
    """Commands run in the tree, wherever the caller stands."""
    house.add_python()
    assert house.dev("run", cwd=tmp_path).returncode == 0
    assert house.done[-1].endswith(f" in {house.root}")


def test_the_callers_python_set_up_stays_outside(house: House) -> None:
    """PYTHONPATH and an active virtual environment change nothing; what was compiled is kept."""
    house.add_python()
    house.variables |= {"PYTHONPATH": "/elsewhere", "VIRTUAL_ENV": "/elsewhere", "PIP_USER": "1"}
    house.variables |= {"PYTHONDONTWRITEBYTECODE": "1"}
    assert house.dev("run").returncode == 0
    assert "PYTHONPATH= " in house.done[-1]


@pytest.mark.parametrize("given,seen", [(None, "1"), ("0", "0")])
def test_debug_is_on_unless_told_otherwise(house: House, given: str | None, seen: str) -> None:
    """A stack started by hand is a developer's; DEBUG= still decides."""
    house.add_python()
    if given is not None:
        house.variables["DEBUG"] = given
    house.dev("run")
    assert f"DEBUG={seen} " in house.done[-1]


def test_arguments_arrive_whole(house: House) -> None:
    """Arguments with spaces and stars reach the command as they are."""
    house.add_python(other='for argument; do echo "<$argument>" >>"$LOG"; done')
    house.dev("manage", "loaddata", "a b", "*")
    assert house.done[-2:] == ["<a b>", "<*>"]


@pytest.mark.parametrize(
    "sqlite,postgresql,status",
    [(0, 0, 0), (1, 0, 1), (0, 1, 1), (0, 5, 0), (5, 0, 0), (5, 5, 5), (1, 5, 1), (5, 1, 1)],
)
def test_the_tests_run_on_both_databases(
    house: House, sqlite: int, postgresql: int, status: int
) -> None:
    """Either failure fails the whole; "nothing selected" (5) fails only when it is so twice."""
    house.add_python(
        other=f'case "$*" in *database*) exit {postgresql} ;; *) exit {sqlite} ;; esac'
    )
    done = house.dev("test", "-k", "word")
    assert done.returncode == status
    first, second = (line.partition(" DEBUG")[0] for line in house.done if line.startswith("ran"))
    assert first.startswith("ran -m pytest ")
    assert first.endswith(" -k word")
    assert second == first.replace(" -k word", " --database=postgresql -k word")


def test_an_interrupted_test_run_is_over(house: House) -> None:
    """Ctrl-C or a wrong option in the first pass: there is no second one."""
    house.add_python(other="exit 2")
    assert house.dev("test").returncode == 2
    assert sum(line.startswith("ran") for line in house.done) == 1


def test_lint_runs_every_step_and_names_what_failed(house: House) -> None:
    """One failing step does not hide the next."""
    house.add_python(other='case "$*" in *mypy*) exit 1 ;; esac')
    done = house.dev("lint")
    assert done.returncode == 1
    for step in ("ruff check", "ruff format", "mypy", "import contracts", "migrations", "locks"):
        assert f"== {step}" in done.stdout
    assert "  mypy" in done.stderr.splitlines()


def test_the_tree_cannot_be_written(house: House) -> None:
    """No place for var/: one line."""
    house.add_python()
    (house.root / "var").write_text("in the way")
    assert "cannot write to" in refusal(house.dev("run"))


@pytest.mark.parametrize(
    "script,shell", [("dev", "sh"), ("dev", "dash"), ("dev", "bash"), (".ci/run", "bash")]
)
def test_the_scripts_parse(script: str, shell: str) -> None:
    """`./dev` is for whatever /bin/sh is; `.ci/run` says itself that it wants bash."""
    if not shutil.which(shell):
        pytest.skip(f"{shell} is not installed")
    done = subprocess.run([shell, "-n", ROOT / script], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")


def test_the_script_is_executable() -> None:
    """`./dev` works in a fresh clone."""
    assert os.access(ROOT / "dev", os.X_OK)
