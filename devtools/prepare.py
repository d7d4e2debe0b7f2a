"""Bring the database up to date and make the first admin user.

`python -m devtools.prepare` prints the new user's password, alone on standard output, or nothing
when an admin exists. Trouble is told on standard error, with a non-zero exit.
"""

from __future__ import annotations

import io
import os
import secrets
import sys

import django
from django.core.exceptions import ImproperlyConfigured
from django.core.management import CommandError, call_command
from django.db import DatabaseError, IntegrityError

from devtools.trouble import Trouble, exit_status

ADMIN = "admin"


def main(_: list[str]) -> int:
    """Check, migrate, make the admin."""
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "integrations_project.settings")
    try:
        django.setup()
        call_command("check", stdout=io.StringIO())
        call_command("migrate", interactive=False, verbosity=0)
        password = make_first_admin()
    except (CommandError, ImproperlyConfigured, DatabaseError) as error:
        raise Trouble(str(error).strip()) from error
    if password:
        print(password)
    return 0


def make_first_admin() -> str | None:
    """The password of a new superuser, or None where there is one, or a user of that name."""
    from django.contrib.auth import get_user_model

    users = get_user_model()._default_manager  # noqa: SLF001 - Django's documented way in
    if users.filter(is_superuser=True).exists():
        return None
    password = secrets.token_urlsafe(12)
    user = get_user_model()(username=ADMIN, is_staff=True, is_superuser=True)
    user.set_password(password)
    try:
        user.save(force_insert=True)
    except IntegrityError:
        return None
    return password


if __name__ == "__main__":
    sys.exit(exit_status(main, sys.argv[1:]))
