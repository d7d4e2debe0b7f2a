"""Whose address it is, and how much of it is used."""

from __future__ import annotations

import pytest
from pytest_django import Settings

from webhooks.addresses import neighbourhood, network_of, sender_of

PROXY = "10.0.0.2"


@pytest.mark.parametrize(
    "forwarded,sender",
    [
        (None, PROXY),
        ("", PROXY),
        ("8.8.4.4", "8.8.4.4"),
        ("8.8.4.4:51334", "8.8.4.4"),
        ("[2a00:1450::1]:443", "2a00:1450::1"),
        ("2a00:1450::1", "2a00:1450::1"),
        ("::ffff:8.8.4.4", "8.8.4.4"),
        # several proxies of ours
        ("8.8.4.4, 10.0.0.9, 192.168.1.1", "8.8.4.4"),
        ("8.8.4.4, 100.64.0.1", "8.8.4.4"),
        # what the sender makes up stands before what our proxy writes
        ("1.1.1.1, 8.8.4.4", "8.8.4.4"),
        ("1.1.1.1, 8.8.4.4, 10.0.0.9", "8.8.4.4"),
        ("nonsense, 8.8.4.4", "8.8.4.4"),
        # a neighbour on our own network
        ("10.0.0.7", "10.0.0.7"),
        ("10.0.0.7, 10.0.0.8", "10.0.0.8"),
        ("nonsense, 10.0.0.8", "10.0.0.8"),
        # no proxy writes that
        ("8.8.4.4, nonsense", PROXY),
        ("8.8.4.4,", PROXY),
        ("unknown", PROXY),
        ("9" * 5000, PROXY),
        ("٣.٣.٣.٣", PROXY),
        (",".join(["1.1.1.1"] * 1000 + ["8.8.4.4"]), "8.8.4.4"),
    ],
)
def test_behind_a_proxy(settings: Settings, forwarded: str | None, sender: str) -> None:
    """With TRUST_PROXY: the last public address, else the last one."""
    settings.TRUST_PROXY = True
    meta = {"REMOTE_ADDR": PROXY}
    if forwarded is not None:
        meta["HTTP_X_FORWARDED_FOR"] = forwarded
    assert sender_of(meta) == sender


def test_without_a_proxy(settings: Settings) -> None:
    """Anybody can write that header."""
    settings.TRUST_PROXY = False
    assert sender_of({"REMOTE_ADDR": "8.8.8.8", "HTTP_X_FORWARDED_FOR": "1.1.1.1"}) == "8.8.8.8"
    assert sender_of({}) == sender_of({"REMOTE_ADDR": None}) == ""  # a local socket


@pytest.mark.parametrize(
    "address,one,network",
    [
        ("8.8.4.4", "8.8.4.4", "8.8.4.0/24"),
        ("::ffff:8.8.4.4", "8.8.4.4", "8.8.4.0/24"),
        ("2a00:1450:1:2:3:4:5:6", "2a00:1450:1:2::/64", "2a00:1450:1::/48"),
        ("fe80::1%eth0", "fe80::/64", "fe80::/48"),
        ("", "", ""),
        ("nonsense", "", ""),
        ("1.1.1.1" * 100, "", ""),
    ],
)
def test_how_much_of_it(address: str, one: str, network: str) -> None:
    """One sender's bucket, and what may be stored."""
    assert (neighbourhood(address), network_of(address)) == (one, network)
