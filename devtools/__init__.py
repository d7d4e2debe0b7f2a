"""What `./dev` runs: a supervisor for the whole stack, local secrets, first-start preparation."""

from __future__ import annotations
