"""Calls that receiving events needs."""
