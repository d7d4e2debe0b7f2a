"""What wraps every request."""

from __future__ import annotations

import re
from typing import Any

import pytest
from django.conf import settings
from django.http import HttpRequest, HttpResponse
from django.test import Client
from django.urls import path

from outbound.request_ids import current_request_id


def show_id(request: HttpRequest) -> HttpResponse:
    return HttpResponse(current_request_id())


urlpatterns = [path("id", show_id), path("webhooks/id", show_id)]
pytestmark = pytest.mark.urls("tests.integrations_project.test_middleware")

HOST = {"host": "localhost"}


class TestRequestId:
    @pytest.mark.parametrize("offered", ["req-1", "a" * 128, "00-4bf92f-01", "!~"])
    def test_a_usable_id_is_taken_over(self, offered: str) -> None:
        """From whoever asked, to what the request causes, and back."""
        answer = Client().get("/id", headers={**HOST, "X-Request-ID": offered})
        assert answer.content.decode() == answer.headers["X-Request-ID"] == offered

    @pytest.mark.parametrize("offered", [None, "", "a" * 129, "two words", "tab\there", "ünïcode"])
    def test_any_other_is_replaced(self, offered: str | None) -> None:
        """Nobody writes lines or columns of ours."""
        headers = HOST if offered is None else {**HOST, "X-Request-ID": offered}
        answer = Client().get("/id", headers=headers)
        assert re.fullmatch("[0-9a-f]{32}", answer.headers["X-Request-ID"])
        assert answer.content.decode() == answer.headers["X-Request-ID"]

    def test_each_request_has_its_own(self) -> None:
        """And none is left behind."""
        ids = {Client().get("/id", headers=HOST).headers["X-Request-ID"] for _ in range(3)}
        assert len(ids) == 3
        assert current_request_id() == ""

    def test_a_refusal_has_one_too(self) -> None:
        """It is what one asks about."""
        answer = Client().get("/id", headers={"host": "stranger.example"})
        assert answer.status_code == 400
        assert answer.headers["X-Request-ID"]


class TestContentSecurityPolicy:
    def test_every_answer_has_the_strict_one(self) -> None:
        """Nothing inline, nothing from elsewhere, in no frame."""
        policy = Client().get("/id", headers=HOST).headers["Content-Security-Policy"]
        assert policy == settings.CONTENT_SECURITY_POLICY
        assert "default-src 'none'" in policy
        assert "unsafe" not in policy

    @pytest.mark.parametrize("debug", [True, False])
    def test_django_s_own_error_pages_are_readable_in_debug(
        self, settings: Any, debug: bool
    ) -> None:
        """They are styled inline."""
        settings.DEBUG = debug
        answer = Client().get("/nowhere", headers=HOST)
        assert answer.status_code == 404
        assert ("Content-Security-Policy" in answer.headers) is not debug


class TestHttps:
    @pytest.fixture(autouse=True)
    def public_https(self, settings: Any) -> None:
        settings.SECURE_SSL_REDIRECT = True

    def test_people_are_redirected(self) -> None:
        """To the same page."""
        answer = Client().get("/id", headers=HOST)
        assert (answer.status_code, answer.headers["Location"]) == (301, "https://localhost/id")

    @pytest.mark.parametrize("address", ["/webhooks/id", "/livez"])
    def test_providers_and_probes_are_not(self, address: str) -> None:
        """They do not follow."""
        assert Client().get(address, headers=HOST).status_code == 200

    def test_a_stranger_s_word_for_https_does_not_count(self) -> None:
        """Only a proxy that we were told of is believed."""
        answer = Client().get("/id", headers={**HOST, "X-Forwarded-Proto": "https"})
        assert answer.status_code == 301
