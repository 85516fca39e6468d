"""Meters, their events, cancelled events, and what was aggregated of them.

    event received  ->  identifier unknown for 24 h? time in the window?  ->  counts from `lag_s` later on

An event that names no known customer or meter is taken and reported later, as Stripe does. What is refused at once is
refused with the words that Stripe uses.
"""

from tests.stripe_server.account import DAY_S, Account
from tests.stripe_server.listing import page
from tests.stripe_server.problems import Json, Problem, invalid, missing

OLDEST_S, NEWEST_S = 35 * DAY_S, 300
UNIQUE_FOR_S = CANCELLED_WITHIN_S = DAY_S
WINDOWS = {"hour": 3600, "day": DAY_S}


def create_meter(account: Account, params: Json) -> Json:
    for name in ("display_name", "event_name", "default_aggregation"):
        if name not in params:
            raise missing(name)
    if any(one["event_name"] == params["event_name"] and one["status"] == "active" for one in _meters(account)):
        raise invalid("event_name", f"An active meter with the event name {params['event_name']} already exists.")
    return account.add(
        "billing.meter",
        "mtr",
        {
            "display_name": params["display_name"],
            "event_name": params["event_name"],
            "default_aggregation": params["default_aggregation"],
            "customer_mapping": params.get("customer_mapping", {"event_payload_key": "stripe_customer_id"}),
            "value_settings": params.get("value_settings", {"event_payload_key": "value"}),
            "status": "active",
        },
    )


def list_meters(account: Account, params: Json) -> Json:
    found = [meter for meter in _meters(account) if params.get("status") in (None, meter["status"])]
    return page(found, params, url="/v1/billing/meters")


def retrieve_meter(account: Account, _params: Json, meter: str) -> Json:
    return account.get("billing.meter", meter)


def create_event(account: Account, params: Json) -> Json:
    for name in ("event_name", "payload"):
        if name not in params:
            raise missing(name)
    moment = int(params.get("timestamp", account.now))
    if moment < account.now - OLDEST_S:
        raise invalid("timestamp", "The timestamp must be within the past 35 calendar days.")
    if moment > account.now + NEWEST_S:
        raise invalid("timestamp", "The timestamp must not be more than 5 minutes in the future.")
    identifier = params.get("identifier") or account.new_id("auto")
    events = account.objects["billing.meter_event"]
    known = events.get(identifier)
    if known is not None and account.now - known["received"] < UNIQUE_FOR_S:
        raise Problem(f"An event already exists with identifier {identifier}.")
    event: Json = {
        "object": "billing.meter_event",
        "created": int(account.now),
        "event_name": params["event_name"],
        "identifier": identifier,
        "livemode": account.livemode,
        "payload": params["payload"],
        "timestamp": moment,
    }
    kept = event | {"id": account.new_id("me"), "received": account.now, "cancelled_at": None}
    if known is not None:  # after 24 h the same identifier counts once more
        events[f"{identifier} {known['id']}"] = known
    events[identifier] = kept
    _report_errors(account, kept)
    return event


def _report_errors(account: Account, event: Json) -> None:
    meter = next((one for one in _meters(account) if one["event_name"] == event["event_name"]), None)
    if meter is None:
        account.emit_thin("v1.billing.meter.no_meter_found", {"type": "billing.meter", "id": ""})
    elif event["payload"].get("stripe_customer_id") not in account.objects["customer"]:
        related = {"type": "billing.meter", "id": meter["id"], "url": f"/v1/billing/meters/{meter['id']}"}
        account.emit_thin("v1.billing.meter.error_report_triggered", related)


def create_adjustment(account: Account, params: Json) -> Json:
    if params.get("type") != "cancel":
        raise invalid("type", "Invalid type: must be cancel")
    identifier = params.get("cancel", {}).get("identifier", "")
    event = account.objects["billing.meter_event"].get(identifier)
    if event is None or event["event_name"] != params.get("event_name"):
        raise Problem(f"No event found with identifier {identifier}.", status=404, code="resource_missing")
    if account.now - event["received"] > CANCELLED_WITHIN_S:
        raise Problem("You can only cancel events within 24 hours of Stripe receiving them.")
    if event["cancelled_at"] is not None:
        raise Problem(f"The event with identifier {identifier} is already cancelled.")
    event["cancelled_at"] = account.now
    return {
        "object": "billing.meter_event_adjustment",
        "cancel": {"identifier": identifier},
        "event_name": event["event_name"],
        "livemode": account.livemode,
        "status": "pending",
        "type": "cancel",
    }


def summaries(account: Account, params: Json, meter: str) -> Json:
    known = account.get("billing.meter", meter)
    for name in ("customer", "start_time", "end_time"):
        if name not in params:
            raise missing(name)
    start, end, window = int(params["start_time"]), int(params["end_time"]), params.get("value_grouping_window")
    step = WINDOWS.get(window or "", 60)
    for name, moment in (("start_time", start), ("end_time", end)):
        if moment % step:
            raise invalid(name, f"{name} must be aligned with {window or 'minute'} boundaries.")
    account.get("customer", params["customer"], "customer")
    bounds = [(start, end)] if window is None else [(at, at + step) for at in range(start, end, step)]
    found = [
        {
            "id": f"mtrsum_{meter}_{at}_{until}",
            "object": "billing.meter_event_summary",
            "aggregated_value": float(counted(account, known, params["customer"], at, until)),
            "start_time": at,
            "end_time": until,
            "livemode": account.livemode,
            "meter": meter,
        }
        for at, until in bounds
    ]
    return page(found, params, url=f"/v1/billing/meters/{meter}/event_summaries")


def counted(account: Account, meter: Json, customer: str, start: float, end: float) -> int:
    """Events of [start, end) that are aggregated by now, without those whose cancellation is."""
    until = account.now - account.lag_s
    return sum(
        int(event["payload"].get("value", 1))
        for event in account.objects["billing.meter_event"].values()
        if event["event_name"] == meter["event_name"]
        and event["payload"].get("stripe_customer_id") == customer
        and start <= event["timestamp"] < end
        and event["received"] <= until
        and (event["cancelled_at"] is None or event["cancelled_at"] > until)
    )


def _meters(account: Account) -> list[Json]:
    return account.all("billing.meter")


ROUTES = {
    ("POST", r"/v1/billing/meters"): create_meter,
    ("GET", r"/v1/billing/meters"): list_meters,
    ("GET", r"/v1/billing/meters/([^/]+)"): retrieve_meter,
    ("GET", r"/v1/billing/meters/([^/]+)/event_summaries"): summaries,
    ("POST", r"/v1/billing/meter_events"): create_event,
    ("POST", r"/v1/billing/meter_event_adjustments"): create_adjustment,
}
