"""POST /api/v1/studies/{study_instance_uid}/retry|cancel|reanalyse|withdraw: what a person asks for a study.

They act on the study's newest generation. What is under way already is left alone, so that asking twice is asking once.
"""

from typing import Annotated, Any

from fastapi import APIRouter, Depends, Request
from pydantic import BaseModel, ConfigDict, Field

from domain.care import Done, Rejection, Verb
from portal_api.asking import ClinicQuery, Problem, StudyUid
from portal_api.auth import requires, visible_clinics
from portal_api.parts import parts_of
from portal_api.permissions import Permission
from storage.api_keys import ApiKey

router = APIRouter(tags=["studies"])

LONGEST_WHY = 400
STUDY = "/api/v1/studies/{study_instance_uid}"
CareKey = Annotated[ApiKey, Depends(requires(Permission.CARE))]
REFUSALS: dict[int | str, dict[str, Any]] = {
    404: {"model": Problem, "description": "no such study"},
    409: {"model": Problem, "description": "not in the state that the study is in; nothing was changed"},
}


class Withdrawal(BaseModel):
    """What destinations are told, and what the history says of it as well."""

    model_config = ConfigDict(extra="forbid")
    rejection: Rejection
    why: str = Field(default="", max_length=LONGEST_WHY, pattern=r"^[^\x00-\x1f\x7f]*$")


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


@router.post(f"{STUDY}/withdraw", summary="Take a study's results back", responses=REFUSALS)
def withdraw(
    request: Request, key: CareKey, study_instance_uid: StudyUid, withdrawal: Withdrawal, clinic: ClinicQuery = None
) -> Done:
    """Nothing more of the study is sent, and every destination that has a result of it gets a rejection note (a Key
    Object Selection) that names them. Its history says which destination did not take the note: there the results have
    to be removed by hand. What was charged stays charged.
    """
    why = f": {withdrawal.why}" if withdrawal.why else ""
    return _ask(request, key, Verb.WITHDRAW, study_instance_uid, clinic, why=why, rejection=withdrawal.rejection)


def _ask(
    request: Request,
    key: ApiKey,
    verb: Verb,
    study_instance_uid: str,
    clinic: str | None,
    *,
    why: str = "",
    rejection: Rejection = Rejection.SAFETY,
) -> Done:
    care = parts_of(request).open_care()
    asked_by = f"by the API key {key.name}{why}"
    clinics = visible_clinics(key, clinic)
    return care.ask(verb, study_instance_uid, clinics=clinics, asked_by=asked_by, rejection=rejection)
