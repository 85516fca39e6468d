"""What a study is put aside for before any model has looked at it."""

import pytest
import sqlalchemy as sa

from domain.completion import CompletionRules
from domain.plans import billing_period
from domain.study import InstanceFacts
from metering.quota import reserve, used
from storage.database import Database, utc_now
from storage.intake import record_instances, record_release
from storage.studies import OpenStudy, close_study
from storage.tables import studies
from tests.factories.arrivals import CHEST, NO_SPOOL, REPORT, arrival
from tests.workflow.conftest import Direct, Puts
from workflow.process_study import process_study
from workflow.rooms import Rooms


def closed(database: Database, facts: InstanceFacts, *, clinic: str = "mercy") -> int:
    study_id = record_instances(database, NO_SPOOL, [arrival("k1", facts=facts, clinic=clinic)])[0].study_id or 0
    record_release(database, [study_id])
    with database.write() as connection:
        open_study = OpenStudy(study_id=study_id, clinic=clinic, reason="released")
        assert close_study(connection, open_study, CompletionRules(after_release_s=0.0))
    return study_id


@pytest.mark.parametrize(
    ("facts", "reason"),
    [
        (REPORT, "no_image"),
        (InstanceFacts(modality="DX", has_pixels=True), "unroutable"),
        (CHEST, "unroutable"),  # of unknown age
        (InstanceFacts(modality="DX", body_part_examined="HAND", has_pixels=True), "not_in_plan"),
    ],
)
def test_a_study_that_no_model_may_look_at_is_held_with_its_reason_and_takes_no_quota(
    database: Database, rooms: Rooms, puts: Puts, facts: InstanceFacts, reason: str
) -> None:
    study_id = closed(database, facts)
    process_study(study_id, 1, rooms=rooms, durable=Direct(database))
    with database.read() as connection:
        row = connection.execute(sa.select(studies)).one()
        assert (row.state, row.reason) == ("held", reason)
        assert used(connection, clinic="mercy", period=billing_period(utc_now())) == 0
    assert puts.jobs == []


def test_a_study_that_is_put_aside_gives_its_quota_back(database: Database, rooms: Rooms) -> None:
    study_id = closed(database, REPORT)
    with database.write() as connection:
        assert reserve(connection, clinic="mercy", study_instance_uid="1.2.3", now=utc_now())
    process_study(study_id, 1, rooms=rooms, durable=Direct(database))
    with database.read() as connection:
        assert used(connection, clinic="mercy", period=billing_period(utc_now())) == 0
