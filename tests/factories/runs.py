"""Runs of versions on studies, entered through the functions that the node uses."""

import random
from dataclasses import replace
from datetime import timedelta

import sqlalchemy as sa

from domain.drift import week_of
from domain.findings import Analysis, ImageRun
from domain.versions import Role
from storage.answers.runs import save_analysis
from storage.database import Database, utc_now
from storage.tables import drift_counts
from tests.portal_api.rows import ANALYSIS, complete, receive


def study(database: Database, number: int, clinic: str = "st-mary", calling_ae_title: str = "MODALITY1") -> int:
    """A closed study with one image."""
    uid = f"1.2.3.{number}"
    return complete(database, receive(database, clinic, uid, f"{uid}.1", calling_ae_title=calling_ae_title))


def analysis(number: int, certainty: float, *, version: str, role: Role = Role.ACTIVE, grey: float = 0.4) -> Analysis:
    """What a version of `chest` says about the image of `study(number)`: one label, and how long it took."""
    (image,) = ANALYSIS.images
    finding = replace(image.findings[0], certainty=certainty)
    image = replace(
        image,
        sop_instance_uid=f"1.2.3.{number}.1",
        findings=(finding,),
        measurements=(),
        run=ImageRun(decode_s=0.03, infer_s=0.02, grey_mean=grey),
    )
    model = replace(ANALYSIS.model, version=version, device_uid=f"2.25.{version.replace('.', '')}", role=role)
    return replace(ANALYSIS, model=model, images=(image,))


def ran(
    database: Database, study_id: int, number: int, certainty: float, *, version: str, role: Role = Role.ACTIVE
) -> None:
    with database.write() as connection:
        save_analysis(connection, study_id, analysis(number, certainty, version=version, role=role))


def count(
    database: Database, study_id: int, images: int, *, mean: float, version: str = "1.0.0", role: Role = Role.ACTIVE
) -> None:
    """So many images are analysed, with scores around `mean`."""
    chance = random.Random(3)
    with database.write() as connection:
        for _ in range(images):
            said = analysis(1, min(max(chance.gauss(mean, 0.1), 0.0), 1.0), version=version, role=role)
            save_analysis(connection, study_id, said)


def age_weeks(database: Database, weeks: int) -> None:
    """What was counted this week was counted so many weeks ago."""
    this_week = week_of(utc_now().date())
    before = (this_week - timedelta(weeks=weeks)).isoformat()
    with database.write() as connection:
        connection.execute(
            sa.update(drift_counts).where(drift_counts.c.period == this_week.isoformat()).values(period=before)
        )
