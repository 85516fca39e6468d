"""Before the first image of a caller is counted: what the model was published with is what drift is held against."""

from collections.abc import Iterable

import sqlalchemy as sa

from domain.errors import Misconfigured
from domain.findings import Analysis
from inference.reference import Reference
from inference.registry import Registry
from storage.answers import drift
from workflow.rooms import Rooms


def begin_references(connection: sa.Connection, rooms: Rooms, study_id: int, analyses: Iterable[Analysis]) -> None:
    for model in (analysis.model for analysis in analyses if not analysis.model.is_demonstration):
        if published := _published(rooms.registry, model.package, model.version):
            drift.begin_reference(
                connection, study_id, package=model.package, version=model.version, counts=published.counts
            )


def _published(registry: Registry, package: str, version: str) -> Reference | None:
    try:
        return registry.get(package, version).manifest.reference
    except Misconfigured:  # taken away since it answered
        return None
