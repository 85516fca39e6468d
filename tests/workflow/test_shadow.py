"""A version that only watches: what it says is kept, reaches nobody, and costs nobody anything."""

from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, cast

import pytest
import sqlalchemy as sa

from domain.errors import Away
from metering.ledger import read_ledger
from storage.database import Database
from storage.erasure import mark_erased
from storage.overview import StudyFilter, read_history
from storage.tables import drift_counts, model_runs, reservations, results, studies
from tests.factories.packages import build_package
from tests.workflow.conftest import Direct, Puts
from tests.workflow.models import closed_chest, with_models
from workflow.durable import Entry
from workflow.process_study import process_study
from workflow.rooms import Rooms
from workflow.shadow import after_shadow_bug, shadow_study


def analysed(database: Database, rooms: Rooms) -> int:
    study_id = closed_chest(database, rooms.spool)
    process_study(study_id, 1, rooms=rooms, durable=Direct(database))
    return study_id


def runs(database: Database) -> list[tuple[str, str, str, int]]:
    """(version, role, problem, number of scores) in the order in which they came."""
    with database.read() as connection:
        rows = connection.execute(sa.select(model_runs).order_by(model_runs.c.id)).all()
    return [(row.version, row.role, row.problem, len(row.scores)) for row in rows]


def test_a_shadow_looks_after_the_results_are_on_their_way_and_changes_nothing(
    database: Database, rooms: Rooms, puts: Puts, tmp_path: Path
) -> None:
    with with_models(rooms, tmp_path, active="1.0.0", shadow=("1.1.0",)) as rooms:
        study_id = analysed(database, rooms)
        assert puts.jobs == [("pacs", "st-mary", 1, 0.0), ("shadow", study_id, 1, 0.0)]
        (before,) = read_history(database, StudyFilter())
        shadow_study(study_id, 1, rooms=rooms, durable=Direct(database))
        assert read_history(database, StudyFilter()) == [before]
        assert len(puts.jobs) == 2
        assert read_ledger(database) == []
    assert runs(database) == [("1.0.0", "active", "", 2), ("1.1.0", "shadow", "", 2)]
    with database.read() as connection:
        first, second = connection.execute(sa.select(model_runs).order_by(model_runs.c.id)).all()
        assert connection.scalar(sa.select(sa.func.count()).select_from(reservations)) == 1
        assert connection.scalar(sa.select(sa.func.count()).select_from(results)) == len(before.results)
    assert (first.clinic, first.package, first.sop_instance_uid) == ("st-mary", "chest", second.sop_instance_uid)
    assert first.device_uid != second.device_uid
    assert first.scores[0].keys() == {"label", "value", "threshold", "is_certainty"}
    assert {score["label"]: score["threshold"] for score in second.scores} == {"Pneumonia": 0.1, "Effusion": 0.9}
    assert all(row.decode_s >= 0 and row.infer_s >= 0 for row in (first, second))


def test_without_a_shadow_there_is_no_job_for_one(database: Database, rooms: Rooms, puts: Puts, tmp_path: Path) -> None:
    with with_models(rooms, tmp_path, active="1.0.0") as rooms:
        analysed(database, rooms)
    assert [kind for kind, *_ in puts.jobs] == ["pacs"]
    assert [run[:2] for run in runs(database)] == [("1.0.0", "active")]


def test_the_active_version_watches_where_the_canary_has_answered(
    database: Database, rooms: Rooms, tmp_path: Path
) -> None:
    uses = {"active": "1.0.0", "canary": "1.1.0", "canary_share": 1.0, "shadow": ("1.0.0", "1.1.0")}
    with with_models(rooms, tmp_path, **uses) as rooms:
        shadow_study(analysed(database, rooms), 1, rooms=rooms, durable=Direct(database))
    assert [run[:2] for run in runs(database)] == [("1.1.0", "canary"), ("1.0.0", "shadow")]


def test_a_shadow_that_refuses_is_a_row_with_its_reason_and_the_next_one_looks(
    database: Database, rooms: Rooms, tmp_path: Path
) -> None:
    with with_models(rooms, tmp_path, active="1.0.0", shadow=("0.9.0", "1.1.0")) as rooms:
        build_package(tmp_path / "models" / "chest" / "0.9.0", version="0.9.0", age_max_years=5)
        study_id = analysed(database, rooms)
        shadow_study(study_id, 1, rooms=rooms, durable=Direct(database))
        (history,) = read_history(database, StudyFilter())
    _, refused, watched = runs(database)
    assert refused[:2] == ("0.9.0", "shadow")
    assert refused[2].startswith("chest accepts none of the images: age ")
    assert watched == ("1.1.0", "shadow", "", 2)
    assert history.state == "delivering"


def test_a_shadow_that_meets_a_bug_is_a_row_and_the_others_still_look(
    database: Database, rooms: Rooms, puts: Puts, tmp_path: Path
) -> None:
    class Broken:
        def analyse(self, *_: object, **__: object) -> None:
            raise RuntimeError("in the analysis process")

    with with_models(rooms, tmp_path, active="1.0.0", shadow=("1.1.0", "0.9.0")) as rooms:
        build_package(tmp_path / "models" / "chest" / "0.9.0", version="0.9.0")
        study_id = analysed(database, rooms)
        broken = replace(rooms, shadow_analyst=cast(Any, Broken()))
        with pytest.raises(RuntimeError):
            shadow_study(study_id, 1, rooms=broken, durable=Direct(database))
        Direct(database).transaction("after a bug", after_shadow_bug, broken, study_id, 1)
        assert puts.jobs[-1] == ("shadow", study_id, 2, 0.0)
        shadow_study(study_id, 2, rooms=rooms, durable=Direct(database))
    assert runs(database)[1:] == [
        ("1.1.0", "shadow", "an unexpected error; see the worker's log", 0),
        ("0.9.0", "shadow", "", 2),
    ]


def test_a_shadow_waits_for_the_shared_store_for_a_while(
    database: Database, rooms: Rooms, puts: Puts, tmp_path: Path
) -> None:
    class StoreAway:
        def analyse(self, *_: object, **__: object) -> None:
            raise Away("the shared store is away")

    with with_models(rooms, tmp_path, active="1.0.0", shadow=("1.1.0",)) as rooms:
        study_id = analysed(database, rooms)
        away = replace(rooms, shadow_analyst=cast(Any, StoreAway()))
        shadow_study(study_id, 7, rooms=away, durable=Direct(database))
        assert puts.jobs[-1] == ("shadow", study_id, 8, 60.0)
        assert len(runs(database)) == 1
        shadow_study(study_id, 60, rooms=away, durable=Direct(database))
    assert runs(database)[1:] == [("1.1.0", "shadow", "the shared store is away", 0)]


def test_nothing_is_kept_of_a_study_that_was_erased_while_the_shadow_looked(
    database: Database, rooms: Rooms, tmp_path: Path
) -> None:
    class Erasing(Direct):
        def enter(self, name, returns, prepare, *args, **kwargs):  # type: ignore[no-untyped-def]
            def watch_and_erase() -> Entry[Any]:
                entry: Entry[Any] = prepare(*args, **kwargs)
                with database.write() as connection:
                    connection.execute(sa.update(studies).values(state="done"))
                    uid = connection.scalars(sa.select(studies.c.study_instance_uid)).one()
                    mark_erased(connection, clinic="st-mary", study_instance_uid=uid)
                return entry

            return super().enter(
                name, returns, watch_and_erase if name.startswith("watch") else partial(prepare, *args, **kwargs)
            )

    with with_models(rooms, tmp_path, active="1.0.0", shadow=("1.1.0",)) as rooms:
        study_id = analysed(database, rooms)
        shadow_study(study_id, 1, rooms=rooms, durable=Erasing(database))
        assert runs(database) == []
        shadow_study(study_id, 2, rooms=rooms, durable=Direct(database))
        assert runs(database) == []


def test_both_versions_are_held_against_what_they_were_published_with(
    database: Database, rooms: Rooms, tmp_path: Path
) -> None:
    with with_models(rooms, tmp_path, active="1.0.0", shadow=("1.1.0",)) as rooms:
        for version, images in (("1.0.0", 500), ("1.1.0", 700)):
            folder = tmp_path / "models" / "chest" / version
            published = f'[reference]\nabout = "a test"\n[reference.counts]\ngrey = {{ "0.4" = {images} }}\n'
            build_package(folder, version=version, tables=published)
        shadow_study(analysed(database, rooms), 1, rooms=rooms, durable=Direct(database))
    with database.read() as connection:
        rows = connection.execute(sa.select(drift_counts).where(drift_counts.c.period == "reference")).all()
    assert {row.version: row.counts["grey"] for row in rows} == {"1.0.0": {"0.4": 500}, "1.1.0": {"0.4": 700}}
    assert {sum(row.counts["view"].values()) for row in rows} == {1}
