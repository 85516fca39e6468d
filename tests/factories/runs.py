"""Runs of versions on studies, entered through the functions that the node uses."""

from dataclasses import replace

from domain.findings import Analysis, ImageRun
from domain.versions import Role
from storage.database import Database
from storage.model_runs import save_analysis
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
