"""What wraps every request: its id, and the policy that browsers hold our pages to."""

from __future__ import annotations

import uuid
from collections.abc import Callable

from django.conf import settings
from django.http import HttpRequest, HttpResponse

from outbound.request_ids import REQUEST_ID_HEADER, bind_request_id, usable

Responder = Callable[[HttpRequest], HttpResponse]

# Nothing from elsewhere, nothing inline. https://developer.mozilla.org/docs/Web/HTTP/CSP
CONTENT_SECURITY_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; "
    "font-src 'self'; connect-src 'self'; form-action 'self'; base-uri 'none'; "
    "frame-ancestors 'none'"
)


class RequestIdMiddleware:
    """Takes over the caller's X-Request-ID when it is usable, else makes one; answers with it."""

    def __init__(self, get_response: Responder) -> None:
        self._get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponse:
        offered = request.headers.get(REQUEST_ID_HEADER, "")
        request_id = offered if usable(offered) else uuid.uuid4().hex
        with bind_request_id(request_id):
            response = self._get_response(request)
        response[REQUEST_ID_HEADER] = request_id
        return response


class ContentSecurityPolicyMiddleware:
    """Sends a strict policy with every answer, save Django's own error pages in DEBUG."""

    def __init__(self, get_response: Responder) -> None:
        self._get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponse:
        response = self._get_response(request)
        if not (settings.DEBUG and response.status_code in (404, 500)):
            response.headers.setdefault("Content-Security-Policy", CONTENT_SECURITY_POLICY)
        return response
