"""A process that holds places again and again: `python -m tests.outbound.holders NAME SLOTS ROUNDS
FILE`. It appends "+" to the file once it holds one, and "-" before it gives it back: whatever the
order in which several processes get to write, the sum never exceeds the places really held."""

from __future__ import annotations

import os
import random
import sys
import time

import django


def main(name: str, slots: int, rounds: int, path: str) -> None:
    from outbound.permits import return_permit, take_permit

    file = os.open(path, os.O_WRONLY | os.O_APPEND)
    while rounds:
        token = take_permit(name, slots=slots, seconds=300)
        if token is None:
            continue
        os.write(file, b"+")
        time.sleep(random.uniform(0, 0.005))
        os.write(file, b"-")
        if not return_permit(name, token):
            sys.exit("somebody else had our place")
        rounds -= 1


if __name__ == "__main__":
    os.environ["DJANGO_SETTINGS_MODULE"] = "integrations_project.settings"
    django.setup()
    main(sys.argv[1], int(sys.argv[2]), int(sys.argv[3]), sys.argv[4])
