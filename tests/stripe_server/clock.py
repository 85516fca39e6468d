"""The test clock: months go by in a moment, and everything that they bring happens in its order."""

from tests.stripe_server import invoices, subscriptions
from tests.stripe_server.account import Account
from tests.stripe_server.problems import Json, Problem, missing


def create(account: Account, params: Json) -> Json:
    if "frozen_time" not in params:
        raise missing("frozen_time")
    account.move_to(float(params["frozen_time"]))
    fields = {"frozen_time": int(params["frozen_time"]), "status": "ready", "name": params.get("name")}
    return account.add("test_helpers.test_clock", "clock", fields)


def advance(account: Account, params: Json, clock: str) -> Json:
    known = account.get("test_helpers.test_clock", clock)
    to = float(params.get("frozen_time", 0))
    if to <= account.now:
        raise Problem("frozen_time must be after the clock's current time.", param="frozen_time")
    advance_to(account, to)
    known["frozen_time"] = int(to)
    return known


def retrieve(account: Account, _params: Json, clock: str) -> Json:
    return account.get("test_helpers.test_clock", clock)


def advance_to(account: Account, to: float) -> None:
    while due := next_due(account, to):
        moment, act, what, about = due
        account.move_to(max(account.now, moment))
        act(account, what, about)
    account.move_to(to)


def next_due(account: Account, to: float):  # type: ignore[no-untyped-def]
    """The earliest of what is due by then."""
    waiting = [
        (moment, order, part.happen, what, about)
        for order, part in enumerate((invoices, subscriptions))
        for moment, what, about in part.dues(account)
        if moment <= to
    ]
    if not waiting:
        return None
    moment, _, act, what, about = min(waiting, key=lambda one: one[:2])
    return moment, act, what, about


def catch_up(account: Account) -> None:
    """By the wall's clock time moves by itself: what has become due happens now."""
    while due := next_due(account, account.now):
        _, act, what, about = due
        act(account, what, about)


ROUTES = {
    ("POST", r"/v1/test_helpers/test_clocks"): create,
    ("GET", r"/v1/test_helpers/test_clocks/([^/]+)"): retrieve,
    ("POST", r"/v1/test_helpers/test_clocks/([^/]+)/advance"): advance,
}
