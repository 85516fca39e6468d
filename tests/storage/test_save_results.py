"""Result objects and where they go are entered once, however often they are handed over."""

from dataclasses import replace

import pytest
import sqlalchemy as sa

from storage.database import Database
from storage.studies import save_results
from storage.tables import deliveries, results
from tests.portal_api.rows import complete, receive, result

PICTURE, TEXT = result("overlay", "2.25.1"), result("text_sr", "2.25.2")


@pytest.fixture
def study_id(database: Database) -> int:
    return complete(database, receive(database, "st-mary", "1.2.3", "1.2.3.1"))


def entered(database: Database) -> list[tuple[str, str]]:
    """(SOP Instance UID, destination), in the order in which they are sent."""
    query = sa.select(results.c.sop_instance_uid, deliveries.c.destination).join(results).order_by(deliveries.c.id)
    with database.read() as connection:
        return [tuple(row) for row in connection.execute(query)]


def test_an_object_that_two_profiles_share_is_one_result_for_the_takers_of_both(
    database: Database, study_id: int
) -> None:
    rows = [PICTURE, TEXT, replace(PICTURE, profile="sc_only")]
    with database.write() as connection:
        save_results(connection, study_id, rows, {"standard": ["pacs"], "sc_only": ["archive"]})
    assert entered(database) == [("2.25.1", "pacs"), ("2.25.2", "pacs"), ("2.25.1", "archive")]
    with database.read() as connection:
        assert connection.scalar(sa.select(sa.func.count()).select_from(results)) == 2


def test_what_is_there_stays_and_what_is_new_comes_to_it(database: Database, study_id: int) -> None:
    with database.write() as connection:
        save_results(connection, study_id, [PICTURE], {"standard": ["pacs"]})
        save_results(connection, study_id, [PICTURE, TEXT], {"standard": ["pacs", "archive"]})
    assert entered(database) == [
        ("2.25.1", "pacs"),
        ("2.25.1", "archive"),
        ("2.25.2", "pacs"),
        ("2.25.2", "archive"),
    ]
