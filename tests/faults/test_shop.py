"""The example shop, run as a team would run it: web, worker and a provider of their own."""

from __future__ import annotations

import re
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
import requests

from tests.faults.harness import System
from tests.faults.test_faults import come_to_rest

pytestmark = pytest.mark.faults

PASSWORD = "a password of the clerk's"
SECONDS = 30
TOKEN = re.compile(r'name="csrfmiddlewaretoken" value="([^"]+)"')
CART = re.compile(r'name="cart" value="([^"]+)"')


class Visitor:
    """A browser, as far as the shop is concerned."""

    def __init__(self, base: str) -> None:
        self._base = base
        self._session = requests.Session()

    def page(self, path: str = "/shop/checkout") -> str:
        return self._session.get(self._base + path, timeout=SECONDS).text

    def send(self, path: str, **fields: object) -> tuple[int, dict[str, Any]]:
        """POST a form, with the token of the page that shows it."""
        answer = self._post(path, **fields)
        said: dict[str, Any] = answer.json()
        return answer.status_code, said

    def try_to_send(self, path: str, **fields: object) -> int:
        return self._post(path, **fields).status_code

    def log_in(self) -> None:
        answer = self._post("/admin/login/", username="clerk", password=PASSWORD)
        assert "sessionid" in self._session.cookies, answer.text

    def order(self, number: int) -> dict[str, Any]:
        found: dict[str, Any] = self._session.get(
            f"{self._base}/shop/orders/{number}", timeout=SECONDS
        ).json()
        return found

    def _post(self, path: str, **fields: object) -> requests.Response:
        (token,) = TOKEN.findall(self.page())
        form = {"csrfmiddlewaretoken": token, **{k: str(v) for k, v in fields.items()}}
        return self._session.post(
            self._base + path, data=form, timeout=SECONDS, allow_redirects=False
        )


@pytest.fixture
def shop(embedded_system: System) -> System:
    embedded_system.environment |= {
        "DJANGO_SETTINGS_MODULE": "examples.shop.settings",
        "DEBUG": "1",  # cookies without https
        "LEASE_SECONDS": "20",
        "DJANGO_SUPERUSER_PASSWORD": PASSWORD,
    }
    for command in (
        ("makemigrations", "shop", "--check", "--dry-run"),
        ("migrate", "shop"),
        ("createsuperuser", "--noinput", "--username=clerk", "--email=clerk@example.com"),
    ):
        done = embedded_system.manage(*command)
        assert done.returncode == 0, done.stdout + done.stderr
    embedded_system.start_web()
    embedded_system.start_worker()
    return embedded_system


def checkout(shop: System, *, amount: int = 2000, cart: str = "") -> tuple[int, dict[str, Any]]:
    visitor = Visitor(shop.web_url)
    (new,) = CART.findall(visitor.page())
    return visitor.send("/shop/checkout", cart=cart or new, email="a@example.com", amount=amount)


def test_from_checkout_to_refund(shop: System) -> None:
    """The payer has a secret at once; the event marks the order; the refund is bounded."""
    status, said = checkout(shop)
    assert status == 201
    assert said["client_secret"].startswith("pi_")
    come_to_rest(shop)
    clerk = Visitor(shop.web_url)
    assert clerk.order(said["order"])["status"] == "paid"
    refund = f"/shop/orders/{said['order']}/refund"
    assert clerk.try_to_send(refund, amount=500) == 403
    clerk.log_in()
    assert clerk.send(refund, amount=500)[0] == 202
    status, said_ = clerk.send(refund, amount=1501)
    assert (status, said_) == (
        422,
        {"errors": {"amount": ["/amount: at most 1500 can still be refunded"]}},
    )
    assert clerk.send(refund, amount="x")[0] == 422
    come_to_rest(shop)
    assert clerk.order(said["order"])["refunded"] == 500
    refunds = [e.amount for e in shop.provider.ledger() if e.kind == "refund.created"]
    assert refunds == [500]
    shop.check_invariants()


def test_a_form_sent_eight_times_is_one_order(shop: System) -> None:
    (cart,) = CART.findall(Visitor(shop.web_url).page())
    with ThreadPoolExecutor(8) as threads:
        answers = list(threads.map(lambda _: checkout(shop, cart=cart), range(8)))
    assert {status for status, _ in answers} <= {201, 202}
    assert len({said["order"] for _, said in answers}) == 1
    come_to_rest(shop)
    assert len(shop.check_invariants().calls) == 1


def test_what_goes_wrong(shop: System) -> None:
    """A declined card is told; a provider that is down costs nobody the order."""
    shop.provider.decline_for(amount=4242)
    status, said = checkout(shop, amount=4242)
    assert status == 402
    assert said["error"]
    assert Visitor(shop.web_url).order(said["order"])["status"] == "declined"
    assert checkout(shop, amount=1)[0] == 422
    shop.provider.set_mix(rate=1.0, kinds=[{"kind": "status", "status": 503}], method="POST")
    status, said = checkout(shop)
    assert status == 202
    assert not said["client_secret"]
    shop.provider.clear_faults()
    come_to_rest(shop)
    assert Visitor(shop.web_url).order(said["order"])["status"] == "paid"
