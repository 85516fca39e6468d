"""A study from the modality to its meter event: every process of the node, and Stripe's stand-in beside them."""

import sys
from pathlib import Path

import httpx

from metering.subscriptions import subscription_at
from storage.database import utc_now
from tests.journeys.house import LOOPBACK, Node, Orthanc, wait_until
from tests.journeys.test_a_study_and_its_pacs import STUDY
from tests.stripe_server.server import SECRET_KEY, StripeServer

QUICK_WORKER = Path(__file__).with_name("quick_worker.py")


def test_a_study_that_is_delivered_is_counted_by_stripe_and_a_cancelled_subscription_holds_the_next_one(
    sqlite_node: Node, orthanc: Orthanc, chest: Path, tmp_path: Path
) -> None:
    orthanc.start(node_port=sqlite_node.receiver_port)
    with StripeServer() as stripe:
        pay_by_stripe(sqlite_node, stripe, tmp_path)
        subscribed = sqlite_node.run("billing", "subscribe", "st-mary")
        assert (subscribed.returncode, subscribed.stderr) == (0, "")
        sqlite_node.start("receiver")
        sqlite_node.start("portal")
        sqlite_node.start_command([sys.executable, str(QUICK_WORKER), str(sqlite_node.config)], "worker")
        sqlite_node.send(chest)
        sqlite_node.wait_for("done")

        (event,) = wait_until(lambda: stripe.account.all("billing.meter_event"), "Stripe has the study")
        assert event["payload"]["value"] == "1"
        assert STUDY not in "\n".join(stripe.journal)

        (subscription,) = stripe.account.all("subscription")
        sent = len(stripe.account.events)
        with stripe.account.lock:
            from tests.stripe_server.subscriptions import cancel

            cancel(stripe.account, {}, subscription["id"])
        wait_until(lambda: portal_answers(sqlite_node), "the portal answers")
        for told in stripe.account.events[sent:]:
            assert stripe.webhooks.send(lambda body, signature: tell(sqlite_node, body, signature), told) == 200
        wait_until(lambda: is_cancelled(sqlite_node), "the node has heard of it")
        assert "cancelled" in sqlite_node.run("subscriptions", "--json").stdout


def pay_by_stripe(node: Node, stripe: StripeServer, folder: Path) -> None:
    (folder / "stripe_key").write_text(SECRET_KEY)
    (folder / "webhook_secret").write_text(stripe.webhooks.secret)
    keys = f"""
[billing]
stripe_secret_key_file = "{folder / "stripe_key"}"
stripe_webhook_secret_file = "{folder / "webhook_secret"}"
stripe_address = "{stripe.url}"
"""
    text = node.config.read_text().replace(
        'tier = "professional"', 'tier = "professional"\nbilling = {payer = "stripe"}'
    )
    node.config.write_text(text + keys)


def is_cancelled(node: Node) -> bool:
    with node.database.read() as connection:
        return subscription_at(connection, clinic="st-mary", moment=utc_now()).state_at(utc_now()) == "cancelled"


def portal_answers(node: Node) -> bool:
    try:
        return httpx.get(f"http://{LOOPBACK}:{node.portal_port}/health", timeout=60.0).is_success
    except httpx.HTTPError:
        return False


def tell(node: Node, body: bytes, signature: str) -> int:
    url = f"http://{LOOPBACK}:{node.portal_port}/api/v1/stripe/webhook"
    return httpx.post(url, content=body, headers={"Stripe-Signature": signature}, timeout=60.0).status_code
