"""/studies/{study_instance_uid}: what the models found, and a form for what the reader says of each finding."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated

from fastapi import APIRouter, Depends, HTTPException, Request
from fastapi.responses import HTMLResponse
from pydantic import ValidationError
from starlette.responses import Response

from domain.errors import Refuse
from domain.feedback import LONGEST_NOTE, Opinion
from portal_api.asking import CLINIC_PATTERN, ClinicQuery, StudyUid
from portal_api.auth import visible_clinics
from portal_api.pages.rendering import page
from portal_api.pages.session import Reader, own_form, reader, see_other
from portal_api.parts import parts_of
from portal_api.permissions import Permission
from portal_api.routes.feedback import Word
from storage.answers.feedback import FeedbackLine, give_feedback, list_feedback
from storage.overview import AnswerLine, FindingLine, MeasurementLine, StudyFilter, StudyHistory, read_history

router = APIRouter(include_in_schema=False)

# Of a form; the rest is the session's own.
FIELDS = ("label", "verdict", "note", "package", "sop_instance_uid")
NAME = re.compile(r"finding-[0-9]{1,4}-[0-9]{1,4}")
CLINIC = re.compile(CLINIC_PATTERN)


@dataclass(frozen=True, kw_only=True, slots=True)
class Answer:
    """One finding or measured value on the page. `own`: the reader's last word; `others`: the last words of others."""

    name: str
    line: FindingLine | MeasurementLine
    own: FeedbackLine | None
    others: tuple[FeedbackLine, ...]
    earlier: int


@dataclass(frozen=True, kw_only=True, slots=True)
class Group:
    """What one model said about one image, what it found first."""

    model: AnswerLine
    answers: tuple[Answer, ...]


@router.get("/studies/{study_instance_uid}")
def study(
    request: Request,
    reader: Annotated[Reader, Depends(reader)],
    study_instance_uid: StudyUid,
    clinic: ClinicQuery = None,
) -> HTMLResponse:
    """`clinic`: where more than one has the study."""
    return _page(request, reader, study_instance_uid, clinic)


@router.post("/studies/{study_instance_uid}")
def say(
    request: Request,
    reader: Annotated[Reader, Depends(reader)],
    fields: Annotated[dict[str, str], Depends(own_form)],
    study_instance_uid: StudyUid,
) -> Response:
    """Keep a word, and show the page anew where the reader was."""
    if not reader.may(Permission.FEEDBACK):
        raise HTTPException(403, f"a key with the role {reader.key.role} may not say anything of a finding")
    clinic = fields.get("clinic", "") if CLINIC.fullmatch(fields.get("clinic", "")) else None
    try:
        word = Word.model_validate({field: fields[field] for field in FIELDS if field in fields})
        give_feedback(
            parts_of(request).database,
            study_instance_uid,
            Opinion(**word.model_dump()),
            clinics=visible_clinics(reader.key, clinic),
            given_by=reader.key.name,
        )
    except ValidationError as error:
        complaint = "; ".join(f"{detail['loc'][-1]}: {detail['msg']}" for detail in error.errors())
        return _page(request, reader, study_instance_uid, clinic, status=422, trouble=complaint)
    except Refuse as refusal:
        return _page(request, reader, study_instance_uid, clinic, status=409, trouble=refusal.message)
    asked = f"?clinic={clinic}" if clinic else ""
    name = fields.get("name", "") if NAME.fullmatch(fields.get("name", "")) else ""
    return see_other(f"/studies/{study_instance_uid}{asked}#{name}")


def _page(
    request: Request, reader: Reader, uid: str, clinic: str | None, *, status: int = 200, trouble: str = ""
) -> HTMLResponse:
    clinics = visible_clinics(reader.key, clinic) if reader.may(Permission.STUDIES) else frozenset()
    database = parts_of(request).database
    generations = read_history(database, StudyFilter(clinics=clinics, study_instance_uid=uid))
    if not generations:
        return page("no_study.html", 404, reader=reader, study_instance_uid=uid)
    newest = generations[-1]
    generations = [one for one in generations if one.clinic == newest.clinic]
    analysed = [one for one in generations if one.findings or one.measurements]
    shown = analysed[-1] if analysed else newest
    said = [
        line for line in list_feedback(database, uid, clinics={shown.clinic}) if line.generation == shown.generation
    ]
    return page(
        "study.html",
        status,
        reader=reader,
        study=shown,
        newest=newest,
        groups=_groups(shown, said, reader.key.name),
        may_say=reader.may(Permission.FEEDBACK),
        longest_note=LONGEST_NOTE,
        trouble=trouble,
    )


def _groups(study: StudyHistory, said: Sequence[FeedbackLine], who: str) -> list[Group]:
    lines: dict[tuple[str, str], list[FindingLine | MeasurementLine]] = {}
    answered: list[FindingLine | MeasurementLine] = [*study.measurements, *study.findings]
    for line in answered:
        lines.setdefault((line.package, line.sop_instance_uid), []).append(line)
    return [
        Group(
            model=of_image[0],
            answers=tuple(
                _answer(f"finding-{group}-{number}", line, said, who)
                for number, line in enumerate(sorted(of_image, key=lambda line: not line.is_detected), start=1)
            ),
        )
        for group, of_image in enumerate(lines.values(), start=1)
    ]


def _answer(name: str, line: FindingLine | MeasurementLine, said: Sequence[FeedbackLine], who: str) -> Answer:
    about = [
        word
        for word in said
        if (word.package, word.sop_instance_uid, word.label) == (line.package, line.sop_instance_uid, line.label)
    ]
    last = [word for word in about if word.is_last_word]
    return Answer(
        name=name,
        line=line,
        own=next((word for word in last if word.given_by == who), None),
        others=tuple(word for word in last if word.given_by != who),
        earlier=len(about) - len(last),
    )
