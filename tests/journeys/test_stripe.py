"""A study from the modality to its meter event: every process of the node, and Stripe's stand-in beside them."""

from pathlib import Path

import httpx

from tests.journeys.house import LOOPBACK, Node, Orthanc, wait_until
from tests.journeys.test_a_study_and_its_pacs import STUDY
from tests.stripe_server.server import SECRET_KEY, StripeServer


def test_a_study_that_is_delivered_is_counted_by_stripe_and_a_cancelled_subscription_holds_the_next_one(
    sqlite_node: Node, orthanc: Orthanc, chest: Path, tmp_path: Path
) -> None:
    orthanc.start(node_port=sqlite_node.receiver_port)
    with StripeServer() as stripe:
        pay_by_stripe(sqlite_node, stripe, tmp_path)
        subscribed = sqlite_node.run("billing", "subscribe", "st-mary")
        assert (subscribed.returncode, subscribed.stderr) == (0, "")
        sqlite_node.start("serve")
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
        for told in stripe.account.events[sent:]:
            assert stripe.webhooks.send(lambda body, signature: tell(sqlite_node, body, signature), told) == 200
        wait_until(lambda: "cancelled" in sqlite_node.run("subscriptions", "--json").stdout, "the node has heard of it")


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


def tell(node: Node, body: bytes, signature: str) -> int:
    url = f"http://{LOOPBACK}:{node.portal_port}/api/v1/stripe/webhook"
    return httpx.post(url, content=body, headers={"Stripe-Signature": signature}, timeout=60.0).status_code
