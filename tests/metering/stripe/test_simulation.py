"""Months of three clinics, with everything that can go wrong between the ledger and Stripe; in the end both agree.

The long form is `python -m benchmarks metering`: 10,000 studies on both engines.
"""

import pytest

from tests.billing_chaos.run import Plan, simulate
from tests.factories.databases import ENGINES


@pytest.mark.slow
@pytest.mark.parametrize("engine", ENGINES)
def test_ledger_stripe_and_the_sum_of_the_invoices_are_the_same(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory, engine: str
) -> None:
    if engine == "postgresql":
        url = request.getfixturevalue("postgresql_url")
    else:
        url = f"sqlite:///{tmp_path_factory.mktemp('simulation') / 'node.db'}"
    outcome = simulate(url, Plan(database=engine, studies=400, days=70, kills=2, seed=7))
    print(*outcome.lines(), sep="\n")
    assert outcome.is_kept, "\n".join(outcome.lines())
    # It was a bad time, and every way was gone.
    assert min(outcome.crashes, outcome.kills, outcome.outages, outcome.plan_changes, outcome.months) > 0
    assert {"done by meter", "done by cancel", "done by invoice_item", "done by left_out"} <= set(outcome.ways)
