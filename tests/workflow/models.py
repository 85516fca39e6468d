"""Rooms in which studies are really analysed: two versions of `chest`, a radiograph in the spool, every writer."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

from domain.completion import CompletionRules
from domain.versions import ClinicModel
from inference.analyst import Analyst
from inference.registry import Registry
from storage.database import Database
from storage.instances import Spool
from storage.intake import record_instances, record_release
from storage.studies import OpenStudy, close_study
from tests.factories.analyses import NODE
from tests.factories.arrivals import provenance, read_back, spooled
from tests.factories.packages import build_package
from tests.factories.sources import radiograph
from workflow.rooms import Rooms


@contextmanager
def with_models(rooms: Rooms, folder: Path, **model: object) -> Iterator[Rooms]:
    """st-mary uses `chest`, of which 1.0.0 and 1.1.0 are installed, as `model` says."""
    build_package(folder / "models" / "chest" / "1.0.0", version="1.0.0")
    build_package(folder / "models" / "chest" / "1.1.0", version="1.1.0", thresholds=(0.1, 0.9))
    uses = ClinicModel(package="chest", **model)  # type: ignore[arg-type]
    analysts = [
        Analyst(installed_dir=folder / "models", memory_limit_bytes=4 << 30, time_limit_s=60.0, rulebook=rooms.rulebook)
        for _ in range(2)
    ]
    yield replace(
        rooms,
        registry=Registry(folder / "models"),
        analyst=analysts[0],
        shadow_analyst=analysts[1],
        clinics=tuple(replace(clinic, models=(uses,) if clinic.name == "st-mary" else ()) for clinic in rooms.clinics),
        node=NODE,
    )
    for analyst in analysts:
        analyst.close()


def closed_chest(database: Database, spool: Spool, number: int = 1) -> int:
    """An adult's chest came for st-mary and is complete."""
    stored = read_back(spool, spooled(spool, radiograph(number), how=provenance()))
    study_id = record_instances(database, spool, [stored])[0].study_id or 0
    record_release(database, [study_id])
    with database.write() as connection:
        study = OpenStudy(study_id=study_id, clinic="st-mary", reason="released")
        assert close_study(connection, study, CompletionRules(after_release_s=0.0))
    return study_id
