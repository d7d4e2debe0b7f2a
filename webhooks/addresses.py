"""Who sends: the address behind a trusted proxy, and the networks that stand for it."""

from __future__ import annotations

import ipaddress
from collections.abc import Mapping
from functools import lru_cache
from typing import Any

from django.conf import settings

Address = ipaddress.IPv4Address | ipaddress.IPv6Address

REMEMBERED = 4096
MAX_CHARACTERS = 60  # of an address with brackets, zone and port


def sender_of(meta: Mapping[str, Any]) -> str:
    """The sender's address; '' when there is none to be had.

    X-Forwarded-For is believed with TRUST_PROXY only, and read from its end, where our own proxies
    write: the last public address is the sender's, for on private ones our proxies pass it on to
    each other. What stands before it is the sender's own invention.
    """
    if settings.TRUST_PROXY and (forwarded := meta.get("HTTP_X_FORWARDED_FOR")):
        return _forwarded_for(str(forwarded)) or str(meta.get("REMOTE_ADDR") or "")
    return str(meta.get("REMOTE_ADDR") or "")


def _forwarded_for(header: str) -> str:
    last = ""
    for text in reversed(header.split(",")):
        address = _read(text.strip())
        if address is None:  # no proxy writes that: whatever is before it proves nothing
            break
        last = last or str(address)
        if address.is_global:
            return str(address)
    return last


@lru_cache(REMEMBERED)
def neighbourhood(text: str) -> str:
    """What one sender sends from: an IPv4 address, or a /64 of IPv6, where addresses are free."""
    address = _read(text)
    if isinstance(address, ipaddress.IPv6Address):
        return str(ipaddress.ip_network((address, 64), strict=False))
    return "" if address is None else str(address)


def network_of(text: str) -> str:
    """What may be stored of an address: enough to see where a flood comes from, and too little to
    tell who it was."""
    address = _read(text)
    if address is None:
        return ""
    prefix = 24 if address.version == 4 else 48
    return str(ipaddress.ip_network((address, prefix), strict=False))


def _read(text: str) -> Address | None:
    """An address, also with a port, in brackets, or an IPv4 one in an IPv6 one's clothes."""
    if len(text) > MAX_CHARACTERS:
        return None
    if text.startswith("["):
        text = text[1:].partition("]")[0]
    elif text.count(":") == 1:
        text = text.partition(":")[0]
    try:
        address = ipaddress.ip_address(text)
    except ValueError:
        return None
    if isinstance(address, ipaddress.IPv6Address):
        return address.ipv4_mapped or ipaddress.IPv6Address(int(address))  # without its zone
    return address
