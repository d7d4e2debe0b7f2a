"""The last word below /api/: whatever else answers an error there, it becomes a problem. And the
short way in: programs have no session."""

from __future__ import annotations

from collections.abc import Callable

from django.db import InterfaceError, OperationalError
from django.http import HttpRequest, HttpResponse
from django.urls import Resolver404, resolve

from api.problems import asked_of_api, database_away, is_problem, plain, respond

Responder = Callable[[HttpRequest], HttpResponse]

NAMESPACE = "api"
KEPT = ("Allow", "Retry-After", "WWW-Authenticate")


class ProblemMiddleware:
    """Django's own 404, 405, 400 (a wrong host, say) and 500 are pages for people."""

    def __init__(self, get_response: Responder) -> None:
        self._get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponse:
        response = self._get_response(request)
        if not asked_of_api(request):
            return response
        if response.status_code >= 400 and not is_problem(response):
            page, response = response, respond(plain(response.status_code))
            for name in KEPT:
                if name in page.headers:
                    response[name] = page.headers[name]
        response.headers.setdefault("Cache-Control", "no-store")
        return response

    def process_exception(self, request: HttpRequest, error: Exception) -> HttpResponse | None:
        """Of a view that is no operation: the docs page asks the database who looks at it."""
        away = isinstance(error, OperationalError | InterfaceError)
        return respond(database_away()) if away and asked_of_api(request) else None


class DirectMiddleware:
    """Hands requests to the API's operations, past what is there for browsers: static files,
    sessions, log-ins, messages, forms. Every other request passes."""

    def __init__(self, get_response: Responder) -> None:
        self._get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponse:
        if not asked_of_api(request):
            return self._get_response(request)
        try:
            found = resolve(request.path_info)
        except Resolver404:
            return self._get_response(request)
        if found.namespace != NAMESPACE:  # a page about the API
            return self._get_response(request)
        request.get_host()  # one that is not ours is refused, here as everywhere
        request.resolver_match = found
        response: HttpResponse = found.func(request, *found.args, **found.kwargs)
        response.headers["Content-Length"] = str(len(response.content))
        return response
