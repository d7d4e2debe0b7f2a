"""A server that the tests want and cannot have."""

from __future__ import annotations


class ServiceMissing(Exception):
    """Says what was looked for and what to do. The tests that want it skip with this text."""
