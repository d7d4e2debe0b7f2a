#!/usr/bin/env python3
"""Django's command line for Holdfast."""

from __future__ import annotations

import os
import sys


def main() -> None:
    """Run one management command with this tree's settings."""
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "integrations_project.settings")
    from integrations_project.startup import run_command

    run_command(sys.argv)


if __name__ == "__main__":
    main()
