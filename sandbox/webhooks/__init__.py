"""Brings events to a URL, as well or as badly as it is told."""
