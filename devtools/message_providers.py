"""What points notifications at a sandbox on this machine, in the place of every provider."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from devtools.trouble import Trouble
from sandbox.fields import BadInput
from sandbox.messages.secrets import kept_secrets, proofs

UNTRACKED = "ses"  # the certificate that proves its events would have to be at amazonaws.com
# Any of these means that somebody has providers of their own.
THEIRS = (
    "EMAIL_ROUTE", "EMAIL_HOST", "SENDGRID_API_KEY", "MAILGUN_API_KEY", "AWS_ACCESS_KEY_ID",
    "POSTMARK_SERVER_TOKEN", "RESEND_API_KEY", "TWILIO_AUTH_TOKEN",
)  # fmt: skip
# What a sandbox takes for credentials: they open nothing.
KEYS = {
    "SENDGRID_API_KEY": "SG.sandbox",
    "MAILGUN_API_KEY": "key-sandbox",
    "MAILGUN_DOMAIN": "mg.example.com",
    "AWS_ACCESS_KEY_ID": "AKIDSANDBOX",
    "AWS_SECRET_ACCESS_KEY": "sandbox",
    "AWS_REGION": "eu-west-1",
    "POSTMARK_SERVER_TOKEN": "sandbox-token",
    "RESEND_API_KEY": "re_sandbox",
    "TWILIO_ACCOUNT_SID": f"AC{'0' * 32}",
    "TWILIO_AUTH_TOKEN": "sandbox-token",
    "TWILIO_FROM": "+15005550006",
    "DEFAULT_FROM_EMAIL": "Holdfast <holdfast@example.com>",
    "EMAIL_ROUTE": "sendgrid,mailgun,ses,postmark,resend",
}
PROVIDERS = ("sendgrid", "mailgun", "ses", "postmark", "resend", "twilio")
PROOFS = {
    "sendgrid": "SENDGRID_WEBHOOK_PUBLIC_KEYS",
    "mailgun": "MAILGUN_WEBHOOK_SIGNING_KEYS",
    "postmark": "POSTMARK_WEBHOOK_CREDENTIALS",
    "resend": "RESEND_WEBHOOK_SECRETS",
}


def has_message_provider(caller: Mapping[str, str]) -> bool:
    """Whether somebody is to send messages already."""
    return any(caller.get(name) or caller.get(f"{name}_FILE") for name in THEIRS)


def message_environment(caller: Mapping[str, str], *, base: str, state: Path) -> dict[str, str]:
    """The variables for the sandbox at `base`; none where `caller` has a provider already.
    Raises Trouble when its secrets cannot be kept."""
    if has_message_provider(caller):
        return {}
    shown = proofs(_secrets(state))
    return {
        **{name: value for name, value in KEYS.items() if name not in caller},
        **{f"{name.upper()}_API_BASE": f"{base}/{name}" for name in PROVIDERS},
        **{variable: shown[name] for name, variable in PROOFS.items()},
    }


def tracking_arguments(*, state: Path, web: str) -> list[str]:
    """What a sandbox is started with, so that it tells the web process at `web` of messages, under
    the same secrets."""
    given = [f"--tracking-url={web}", f"--untracked={UNTRACKED}"]
    return [*given, f"--tracking-secrets={secrets_file(state)}"]


def secrets_file(state: Path) -> Path:
    return state / "secrets" / "tracking.json"


def _secrets(state: Path) -> dict[str, str]:
    file = secrets_file(state)
    try:
        file.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        return kept_secrets(file)
    except (OSError, BadInput) as error:
        raise Trouble(f"cannot keep secrets in {file.parent}: {error}") from error
