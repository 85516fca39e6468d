"""POST /api/v1/studies/{study_instance_uid}/retry|cancel|reanalyse: what a person asks for a study.

They act on the study's newest generation. What is under way already is left alone, so that asking twice is asking once.
"""

from typing import Annotated, Any

from fastapi import APIRouter, Depends, Request

from domain.care import Done, Verb
from portal_api.asking import ClinicQuery, Problem, StudyUid
from portal_api.auth import requires, visible_clinics
from portal_api.parts import parts_of
from portal_api.permissions import Permission
from storage.api_keys import ApiKey

router = APIRouter(tags=["studies"])

STUDY = "/api/v1/studies/{study_instance_uid}"
CareKey = Annotated[ApiKey, Depends(requires(Permission.CARE))]
REFUSALS: dict[int | str, dict[str, Any]] = {
    404: {"model": Problem, "description": "no such study"},
    409: {"model": Problem, "description": "not in the state that the study is in; nothing was changed"},
}


@router.post(f"{STUDY}/retry", summary="Try a study again", responses=REFUSALS)
def retry(request: Request, key: CareKey, study_instance_uid: StudyUid, clinic: ClinicQuery = None) -> Done:
    """A study that is held, failed or cancelled is looked at once more, from the start. One whose results a
    destination refused has these sent once more, without another analysis.
    """
    return _ask(request, key, Verb.RETRY, study_instance_uid, clinic)


@router.post(f"{STUDY}/cancel", summary="Do not analyse a study", responses=REFUSALS)
def cancel(request: Request, key: CareKey, study_instance_uid: StudyUid, clinic: ClinicQuery = None) -> Done:
    """A study that is being received or waits for its analysis is kept, with what still comes for it, and not analysed.
    Nothing is charged.
    """
    return _ask(request, key, Verb.CANCEL, study_instance_uid, clinic)


@router.post(f"{STUDY}/reanalyse", summary="Analyse a study anew", responses=REFUSALS)
def reanalyse(request: Request, key: CareKey, study_instance_uid: StudyUid, clinic: ClinicQuery = None) -> Done:
    """A study that is done is analysed anew, as its next generation; the new reports name those that they replace.
    A study is charged once, however often it is analysed.
    """
    return _ask(request, key, Verb.REANALYSE, study_instance_uid, clinic)


def _ask(request: Request, key: ApiKey, verb: Verb, study_instance_uid: str, clinic: str | None) -> Done:
    care = parts_of(request).open_care()
    clinics = visible_clinics(key, clinic)
    return care.ask(verb, study_instance_uid, clinics=clinics, asked_by=f"by the API key {key.name}")
