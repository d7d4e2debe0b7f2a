"""What can be written to: email addresses, telephone numbers, and the tokens of devices."""

from __future__ import annotations

import hashlib
import re

from django.core.exceptions import ValidationError
from django.core.validators import validate_email

E164 = re.compile(r"\+[1-9][0-9]{6,14}")
TOKEN = re.compile(r"[A-Za-z0-9_:.-]{1,4096}")
LOCAL_CHARACTERS = 64  # https://www.rfc-editor.org/rfc/rfc5321#section-4.5.3.1
ADDRESS_CHARACTERS = 254
KEY_CHARACTERS = 255


def email_address(text: str) -> str:
    """The address as it is stored and sent: its domain in lower case and in ASCII.
    Raises ValueError."""
    local, at, domain = text.strip().rpartition("@")
    try:
        host = domain.encode("idna").decode("ascii").lower()
    except UnicodeError:
        raise ValueError("is no email address") from None
    address = f"{local}{at}{host}"
    if local == '""':
        raise ValueError("is no email address")
    if not local.isascii():
        raise ValueError("must be ASCII before the @: few servers take anything else")
    if len(local) > LOCAL_CHARACTERS or len(address) > ADDRESS_CHARACTERS:
        raise ValueError("is too long for an email address")
    try:
        validate_email(address)
    except ValidationError:
        raise ValueError("is no email address") from None
    return address


def phone_number(text: str) -> str:
    """A number in E.164. Raises ValueError. https://www.twilio.com/docs/glossary/what-e164"""
    if not E164.fullmatch(text):
        raise ValueError("must be a number in E.164: + and 7 to 15 digits")
    return text


def device_token(text: str) -> str:
    """A device's token, as far as that can be told. Raises ValueError."""
    if not TOKEN.fullmatch(text):
        raise ValueError("is no token of a device")
    return text


def address_key_of(address: str) -> str:
    """What addresses are looked up and compared by. Mailboxes differ in case only in theory, and
    the token of a device may be longer than what can be indexed."""
    if "@" in address:
        return address.lower()
    if len(address) <= KEY_CHARACTERS:
        return address
    return hashlib.sha256(address.encode()).hexdigest()
