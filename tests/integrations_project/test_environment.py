"""Reading variables: what is wrong is named, and never shown where it could be secret."""

from __future__ import annotations

from pathlib import Path

import pytest

from integrations_project.environment import Environment


def detail(env: Environment) -> str:
    """The only problem there is."""
    [problem] = env.problems
    return f"{problem.variable} {problem.detail}"


@pytest.mark.parametrize("value", ["1", "true", "TRUE", "yes", "on", " 1 "])
def test_a_flag_is_on(value: str) -> None:
    """The usual words for yes, in any case, spaces around them."""
    assert Environment({"DEBUG": value}).flag("DEBUG") is True


@pytest.mark.parametrize("value", ["0", "false", "No", "off"])
def test_a_flag_is_off(value: str) -> None:
    """The usual words for no win over a default."""
    assert Environment({"DEBUG": value}).flag("DEBUG", default=True) is False


@pytest.mark.parametrize("value", ["", "  "])
def test_an_empty_variable_is_an_absent_one(value: str) -> None:
    """`NAME=` in a file or in compose means the default."""
    env = Environment(dict.fromkeys(("FLAG", "NUMBER", "CHOICE", "LIST", "URL", "SECRET"), value))
    assert env.flag("FLAG", default=True) is True
    assert env.whole("NUMBER", 16) == 16
    assert env.choice("CHOICE", ("a", "b"), default="b") == "b"
    assert env.words("LIST") == []
    assert env.url("URL", "https://default.example") == "https://default.example"
    assert env.secret("SECRET", "default") == "default"
    assert env.problems == []


@pytest.mark.parametrize("value", ["flase", "2", "tru", "None", "yes please"])
def test_an_unknown_flag_is_refused(value: str) -> None:
    """A typo is never read as off."""
    env = Environment({"DEBUG": value})
    assert env.flag("DEBUG") is False
    assert detail(env) == f"DEBUG must be 1 or 0, not {value!r}"


@pytest.mark.parametrize(
    "value", ["0", "-1", "1.5", "ten", "1e3", "٣", "12345678901", "0x10", "1_0"]
)
def test_a_malformed_whole_number_is_refused(value: str) -> None:
    """The default stands in for it meanwhile."""
    env = Environment({"WORKER_CONCURRENCY": value})
    assert env.whole("WORKER_CONCURRENCY", 16) == 16
    assert detail(env).startswith("WORKER_CONCURRENCY must be a whole number above 0, not ")


@pytest.mark.parametrize("value", ["0", "-1", "soon", "nan", "inf", "5s"])
def test_a_malformed_duration_is_refused(value: str) -> None:
    """Seconds above zero, and finite."""
    env = Environment({"LEASE_SECONDS": value})
    assert env.seconds("LEASE_SECONDS", 30) == 30
    assert detail(env).startswith("LEASE_SECONDS must be a number of seconds above 0, not ")


def test_durations_may_have_decimals() -> None:
    """The demo and the tests count in tenths of a second."""
    env = Environment({"SWEEP_SECONDS": "0.5", "RETRY_SCHEDULE": " 0.1, 2 ,30,"})
    assert env.seconds("SWEEP_SECONDS", 5) == 0.5
    assert env.seconds_list("RETRY_SCHEDULE") == (0.1, 2, 30)


@pytest.mark.parametrize("value", ["1,two", "5,-1", "5;30", "0"])
def test_a_malformed_list_of_durations_is_refused(value: str) -> None:
    """One wrong entry, and none of them is used."""
    env = Environment({"RETRY_SCHEDULE": value})
    assert env.seconds_list("RETRY_SCHEDULE") == ()
    assert detail(env).startswith("RETRY_SCHEDULE must be a comma list of seconds, not ")


def test_an_unknown_choice_is_refused() -> None:
    """With what can be chosen."""
    env = Environment({"LOG_FORMAT": "xml"})
    assert env.choice("LOG_FORMAT", ("console", "json"), default="json") == "json"
    assert detail(env) == "LOG_FORMAT must be one of console, json, not 'xml'"


@pytest.mark.parametrize(
    "value, why",
    [
        ("holdfast.example", "must begin with https:// or http://"),
        ("ftp://holdfast.example", "must begin with https:// or http://, not 'ftp'"),
        ("https://", "names no host"),
        ("https://holdfast.example:0", "names no host"),
        ("https://holdfast.example:port", "is no URL"),
        ("https://[::1", "is no URL"),
        ("https://u:p@holdfast.example", "must be a plain address"),
        ("https://holdfast.example/?a=b", "must be a plain address"),
        ("https://holdfast.example/#a", "must be a plain address"),
    ],
)
def test_a_malformed_address_is_refused(value: str, why: str) -> None:
    """An address that others are told must be one."""
    env = Environment({"PUBLIC_URL": value})
    assert env.url("PUBLIC_URL") == ""
    assert why in detail(env)


def test_an_address_ends_without_a_slash() -> None:
    """So that paths can be put after it."""
    env = Environment({"STRIPE_API_BASE": "http://127.0.0.1:9001/"})
    assert env.url("STRIPE_API_BASE") == "http://127.0.0.1:9001"


@pytest.mark.parametrize(
    "value",
    ["amqp://", "amqp://u:p@host:5672//", "amqps://host/vhost", "amqp://a;amqp://b", "memory://"],
)
def test_brokers_that_are_known(value: str) -> None:
    """RabbitMQ, several of them, or the broker inside the worker."""
    env = Environment({"CELERY_BROKER_URL": value})
    assert env.broker_url("CELERY_BROKER_URL", default="").startswith(value.rstrip("/"))
    assert env.problems == []


@pytest.mark.parametrize(
    "value",
    ["redis://:hunter22@host", "hunter22", "amqp://u:hunter22@host:none/", "sqs://hunter22"],
)
def test_a_broker_that_is_not_known_is_refused(value: str) -> None:
    """By its scheme or port, and without its password."""
    env = Environment({"CELERY_BROKER_URL": value})
    assert env.broker_url("CELERY_BROKER_URL", default="memory://") == "memory://"
    assert "hunter22" not in detail(env)


class TestSecrets:
    """Every secret NAME may also come as NAME_FILE."""

    def test_from_a_file(self, tmp_path: Path) -> None:
        """As docker and systemd hand them over, with a newline at the end."""
        (tmp_path / "key").write_text("whsec_123456\n")
        env = Environment({"SECRET_FILE": str(tmp_path / "key")})
        assert env.secret("SECRET") == "whsec_123456"
        assert env.problems == []

    def test_a_dollar_sign_is_part_of_it(self) -> None:
        """Nothing is interpolated."""
        assert Environment({"SECRET": "$HOME", "HOME": "/root"}).secret("SECRET") == "$HOME"

    def test_both_are_one_too_many(self, tmp_path: Path) -> None:
        """Nobody should have to guess which one won."""
        (tmp_path / "key").write_text("in the file")
        env = Environment({"SECRET": "in the variable", "SECRET_FILE": str(tmp_path / "key")})
        env.secret("SECRET")
        assert detail(env) == "SECRET is set, and so is SECRET_FILE: unset one of them"

    def test_a_file_that_is_not_there(self, tmp_path: Path) -> None:
        """Is named by its variable."""
        env = Environment({"SECRET_FILE": str(tmp_path / "none")})
        assert env.secret("SECRET", "default") == "default"
        assert detail(env) == "SECRET_FILE cannot be read: No such file or directory"

    @pytest.mark.parametrize(
        "content, why", [(b"\n", "names an empty file"), (b"\xff", "cannot be read: not UTF-8")]
    )
    def test_a_file_without_a_secret(self, tmp_path: Path, content: bytes, why: str) -> None:
        """An empty file is a mistake; an empty variable is not."""
        (tmp_path / "key").write_bytes(content)
        env = Environment({"SECRET_FILE": str(tmp_path / "key")})
        env.secret("SECRET")
        assert detail(env) == f"SECRET_FILE {why}"

    def test_their_values_are_remembered_for_hiding(self) -> None:
        """Each of a list by itself, and the passwords of URLs; not what could be any word."""
        env = Environment(
            {
                "KEYS": "first-secret, second-secret",
                "URL": "amqp://user:pass%2Fword@host//",
                "SHORT": "guest",
            }
        )
        env.secret_words("KEYS")
        env.secret("URL")
        env.secret("SHORT")
        assert {"first-secret", "second-secret", "pass%2Fword", "pass/word"} <= env.secret_values
        assert "guest" not in env.secret_values
        assert "" not in env.secret_values


class TestSecretDocuments:
    """A JSON object that is a secret, or the path of one."""

    FIELDS = ("project", "private_key")
    DOCUMENT = '{"project": "shop", "private_key": "-----BEGIN PRIVATE KEY-----x", "n": 1}'

    def read(self, env: Environment) -> dict[str, str]:
        return env.secret_document("KEY", fields=self.FIELDS)

    @pytest.mark.parametrize("variable", ["KEY", "KEY_FILE", "path"])
    def test_where_it_is(self, tmp_path: Path, variable: str) -> None:
        """In the variable, or in a file that either of two variables names."""
        path = tmp_path / "key.json"
        path.write_text(self.DOCUMENT)
        value = {"KEY": self.DOCUMENT}.get(variable, str(path))
        env = Environment({"KEY" if variable == "path" else variable: value})
        found = self.read(env)
        assert found == {"project": "shop", "private_key": "-----BEGIN PRIVATE KEY-----x"}
        assert found["private_key"] in env.secret_values
        assert env.problems == []

    def test_none(self) -> None:
        env = Environment({})
        assert (self.read(env), env.problems) == ({}, [])

    @pytest.mark.parametrize(
        "value,why",
        [
            ("{", "KEY must be a JSON object, or the path of one, with 'private_key'"),
            ('{"project": 1, "private_key": "x"}', "KEY must be a JSON object, or the path"),
            ("/no/such/file", "KEY cannot be read: No such file or directory"),
            ("[1]", "KEY cannot be read: No such file or directory"),
        ],
    )
    def test_unusable(self, value: str, why: str) -> None:
        """Nothing is configured then, and the check says why, without the content."""
        env = Environment({"KEY": value})
        assert self.read(env) == {}
        assert detail(env).startswith(why)
