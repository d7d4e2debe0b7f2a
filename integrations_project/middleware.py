"""What wraps every request: its id, and the policy that browsers hold our pages to; and the way
past all that for those who have no use for it."""

from __future__ import annotations

import uuid
from collections.abc import Callable

from django.conf import settings
from django.http import HttpRequest, HttpResponse
from django.urls import Resolver404, resolve

from outbound.request_ids import REQUEST_ID_HEADER, bind_request_id, usable

Responder = Callable[[HttpRequest], HttpResponse]

WEBHOOKS = "/webhooks/"


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
            response.headers.setdefault("Content-Security-Policy", settings.CONTENT_SECURITY_POLICY)
        return response


class WebhookMiddleware:
    """Answers providers at once: sessions, log-ins, forms, redirects and rules for browsers are for
    people, and half of what a delivery costs. Every other request passes."""

    def __init__(self, get_response: Responder) -> None:
        self._get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponse:
        if not request.path_info.startswith(WEBHOOKS):
            return self._get_response(request)
        try:
            found = resolve(request.path_info)
        except Resolver404:
            return self._get_response(request)
        request.get_host()  # one that is not ours is refused here as everywhere
        request.resolver_match = found
        response: HttpResponse = found.func(request, *found.args, **found.kwargs)
        response.headers["X-Content-Type-Options"] = "nosniff"
        # As the middleware for people does it: else the answer goes out in chunks.
        response.headers["Content-Length"] = str(len(response.content))
        return response
