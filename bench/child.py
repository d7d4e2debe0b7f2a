"""One benchmark on one database: `python -m bench.child NAME ROUNDS CALLS ROWS` prints its report
as JSON. Its environment is the project's."""

from __future__ import annotations

import importlib
import json
import os
import sys
from dataclasses import asdict

import django
from django.core.management import call_command

from bench.measuring import Effort


def main(name: str, effort: Effort) -> None:
    os.environ["DJANGO_SETTINGS_MODULE"] = "integrations_project.settings"
    django.setup()
    call_command("migrate", interactive=False, verbosity=0)
    benchmark = importlib.import_module(f"bench.{name}")
    report = benchmark.measure(effort)
    print(json.dumps(asdict(report)))


if __name__ == "__main__":
    rounds, calls, rows = map(int, sys.argv[2:])
    main(sys.argv[1], Effort(rounds=rounds, calls=calls, rows=rows))
