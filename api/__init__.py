"""The HTTP front door: clients, idempotent requests, problem+json."""
