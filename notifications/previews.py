"""An email as its recipient sees it, for people who run us: nothing in it can run, and nothing is
fetched from elsewhere.

The page is shown in a sandboxed frame and under a policy of its own, which is what keeps scripts
and remote images out; the content is not trusted, for it may quote anybody.
"""

from __future__ import annotations

import base64
import re
from typing import Any

from django.http import HttpResponse
from django.utils.html import escape

from notifications.models import Message, Recipient
from notifications.placeholders import fill
from outbound.blobs import read_blob
from outbound.errors import DeliveryError

# https://developer.mozilla.org/docs/Web/HTTP/CSP: emails carry their style inline.
POLICY = (
    "default-src 'none'; style-src 'unsafe-inline'; img-src data:; form-action 'none'; "
    "base-uri 'none'; frame-ancestors 'self'; sandbox"
)
IMAGES = frozenset({"image/png", "image/jpeg", "image/gif", "image/webp"})
LARGEST = 500_000  # bytes of an inline image that is shown
CID = re.compile(r"cid:([A-Za-z0-9._@-]{1,100})")
SCRIPT = re.compile(r"<script\b.*?(</script\s*>|$)", re.I | re.S)
ACTIVE = re.compile(r"<\s*/?\s*(meta|base|link|script|iframe|object|embed)\b[^>]*>?", re.I)


def preview_page(message: Message, recipient: Recipient | None) -> HttpResponse:
    """The HTML body, else the text, with the recipient's own words in it."""
    content = message.content
    variables = recipient.words.get("variables") if recipient else None
    html, text = content.get("html", ""), content.get("text") or content.get("body", "")
    if variables:
        html, text = _filled(html, variables, html=True), _filled(text, variables, html=False)
    body = (
        _with_images(ACTIVE.sub("", SCRIPT.sub("", html)), content)
        if html.strip()
        else _plain(text)
    )
    response = HttpResponse(f'<!doctype html><meta charset="utf-8"><title>Preview</title>{body}')
    response["Content-Security-Policy"] = POLICY
    response["X-Frame-Options"] = "SAMEORIGIN"
    response["Referrer-Policy"] = "no-referrer"
    response["Cache-Control"] = "private, no-store"
    return response


def _filled(text: str, variables: dict[str, str], *, html: bool) -> str:
    try:
        return fill(text, variables, html=html)
    except KeyError:  # stored by code of another version
        return text


def _plain(text: str) -> str:
    return f'<pre style="white-space: pre-wrap; font: 14px sans-serif">{escape(text)}</pre>'


def _with_images(html: str, content: dict[str, Any]) -> str:
    """Images that came along with the message, in place of their names."""
    files = {each["content_id"]: each for each in content.get("attachments", [])}

    def spelled(found: re.Match[str]) -> str:
        file = files.get(found[1])
        if file is None or file["content_type"] not in IMAGES or file["size"] > LARGEST:
            return found[0]
        try:
            octets = read_blob(file["digest"])
        except DeliveryError:  # past its retention
            return found[0]
        return f"data:{file['content_type']};base64,{base64.b64encode(octets).decode()}"

    return CID.sub(spelled, html)
