"""How much the sandbox reads, keeps and holds open. The oldest is forgotten first."""

from __future__ import annotations

MAX_HEAD_BYTES = 64 * 1024
MAX_BODY_BYTES = 1024 * 1024
MAX_MESSAGE_BYTES = 40 * 1024 * 1024  # what Amazon SES takes, and nobody more
MAX_CONNECTIONS = 4000
MAX_RULES = 1000
MAX_WAITING_DELIVERIES = 20_000
IDLE_SECONDS = 65.0

KEPT_OBJECTS = 50_000  # of each kind
KEPT_EVENTS = 20_000
KEPT_KEYS = 50_000
KEPT_MESSAGES = 5_000
KEPT_RECORDS = 100_000  # effects, requests and deliveries, each
