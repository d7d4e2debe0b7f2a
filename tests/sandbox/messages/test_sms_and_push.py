"""What Twilio and Firebase each have of their own."""

from __future__ import annotations

import base64
import json
import time
from typing import Any
from urllib.parse import quote, urlencode

import pytest

from sandbox.control import Sandbox
from tests.sandbox.api import Answer, Api
from tests.sandbox.messages.requests import ACCOUNT, FORM, TOKEN, basic, fcm, twilio

pytestmark = pytest.mark.faults
TO = "+15005551234"


@pytest.mark.parametrize(
    "changes, code",
    [
        ({"To": "12345"}, 21211),
        ({"To": "+15005550001"}, 21211),
        ({"To": "+15005550004"}, 21610),
        ({"To": "+15005550009"}, 21614),
        ({"To": ""}, 21604),
        ({"From": ""}, 21603),
        ({"From": "+15005550007"}, 21606),
        ({"Body": ""}, 21602),
        ({"Body": "x" * 1601}, 21617),
        ({"StatusCallback": "nowhere"}, 21609),
        ({"Text": "x"}, 20001),
    ],
)
def test_what_twilio_refuses(
    api: Api, sandbox: Sandbox, changes: dict[str, str], code: int
) -> None:
    """400 with Twilio's code, and no effect."""
    refused = twilio(api, [TO], **changes)
    assert (refused.status, refused.json["code"], refused.json["status"]) == (400, code, 400)
    assert str(code) in refused.json["more_info"]
    assert sandbox.ledger() == []


def test_who_opted_out(api: Api, sandbox: Sandbox) -> None:
    """21610, for whom it is told about."""
    sandbox.change_provider("twilio", gone=[TO])
    assert twilio(api, [TO]).json["code"] == 21610


def listed(api: Api, **query: str) -> Answer:
    path = f"/twilio/2010-04-01/Accounts/{ACCOUNT}/Messages.json?{urlencode(query)}"
    return api.send("GET", path, headers={"Authorization": basic(ACCOUNT, TOKEN)})


def test_looking_up(api: Api, sandbox: Sandbox) -> None:
    """By number, sender and day, newest first, page by page; of this account alone."""
    sids = [twilio(api, [TO], Body=f"n{n}").json["sid"] for n in range(5)]
    twilio(api, ["+15005559999"])
    today = time.strftime("%Y-%m-%d", time.gmtime())
    page = listed(api, To=TO, DateSent=today, PageSize="2").json
    assert [each["sid"] for each in page["messages"]] == sids[:2:-1]
    following = api.send(
        "GET", f"/twilio{page['next_page_uri']}", headers={"Authorization": basic(ACCOUNT, TOKEN)}
    )
    assert [each["body"] for each in following.json["messages"]] == ["n2", "n1"]
    assert len(listed(api, **{"DateSent>": "2020-01-01"}).json["messages"]) == 6
    for query in ({"To": "+1999"}, {"DateSent": "2020-01-01"}, {"From": "+1500"}):
        assert listed(api, **query).json["messages"] == []
    another = basic("AC" + "1" * 32, TOKEN)
    path = f"/twilio/2010-04-01/Accounts/{ACCOUNT}/Messages/{quote(sids[0])}.json"
    assert api.send("GET", path, headers={"Authorization": another}).status == 401
    one = api.send("GET", path, headers={"Authorization": basic(ACCOUNT, TOKEN)}).json
    assert (one["sid"], one["to"], one["body"]) == (sids[0], TO, "n0")


@pytest.mark.parametrize(
    "token, changes, status, code",
    [
        ("gone-1", {}, 404, "UNREGISTERED"),
        ("bad-1", {}, 400, "INVALID_ARGUMENT"),
        ("mismatch-1", {}, 403, "SENDER_ID_MISMATCH"),
        ("not a token", {}, 400, "INVALID_ARGUMENT"),
        ("", {}, 400, "INVALID_ARGUMENT"),
        ("device:1", {"data": {"n": 5}}, 400, "INVALID_ARGUMENT"),
        ("device:1", {"data": {"from": "x"}}, 400, "INVALID_ARGUMENT"),
        ("device:1", {"data": {"x": "y" * 4097}}, 400, "INVALID_ARGUMENT"),
        ("device:1", {"colour": "red"}, 400, "INVALID_ARGUMENT"),
    ],
)
def test_what_firebase_refuses(
    api: Api, sandbox: Sandbox, token: str, changes: dict[str, Any], status: int, code: str
) -> None:
    """The code is in the details, as Firebase has it."""
    refused = fcm(api, [token], **changes)
    assert refused.status == status
    assert refused.error["details"][0]["errorCode"] == code
    assert sandbox.ledger() == []


def part(document: dict[str, Any]) -> str:
    return base64.urlsafe_b64encode(json.dumps(document).encode()).decode().rstrip("=")


def ask_for_token(api: Api, **changes: Any) -> Answer:
    now = int(time.time())
    claims = {
        "iss": "sender@holdfast-test.iam.gserviceaccount.com",
        "scope": "https://www.googleapis.com/auth/firebase.messaging",
        "aud": "https://oauth2.googleapis.com/token",
        "iat": now,
        "exp": now + 3600,
        **changes,
    }
    form = {
        "grant_type": "urn:ietf:params:oauth:grant-type:jwt-bearer",
        "assertion": f"{part({'alg': 'RS256', 'typ': 'JWT'})}.{part(claims)}.c2lnbmF0dXJl",
    }
    return api.send("POST", "/google/token", urlencode(form), {"Content-Type": FORM})


def test_a_token(api: Api, sandbox: Sandbox) -> None:
    """Given for a fresh assertion; counted, so that tests can tell how often it was fetched."""
    given = ask_for_token(api)
    assert given.status == 200
    assert given.json["token_type"] == "Bearer"
    assert given.json["expires_in"] == 3599
    assert len(sandbox.requests(path="/google/token")) == 1
    stale, long = ask_for_token(api, exp=5, iat=1), ask_for_token(api, exp=time.time() + 9999)
    assert {stale.json["error"], long.json["error"]} == {"invalid_grant"}
    assert ask_for_token(api, iss="").status == 400
