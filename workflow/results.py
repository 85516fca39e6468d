"""A result that was written is kept where results lie, and its row says what it is."""

from reports.request import WrittenResult
from storage.studies import ResultRow
from workflow.rooms import Rooms


def keep(rooms: Rooms, written: WrittenResult, *, study: str, profile: str, is_note: bool) -> ResultRow:
    """`study`: its name for the result folder (storage/study_keys.py)."""
    rooms.results.put(written.sop_instance_uid, written.content, study=study)
    return ResultRow(
        kind=written.kind,
        profile=profile,
        is_note=is_note,
        sop_class_uid=written.sop_class_uid,
        sop_instance_uid=written.sop_instance_uid,
        series_instance_uid=written.series_instance_uid,
        transfer_syntax_uid=written.transfer_syntax_uid,
    )
