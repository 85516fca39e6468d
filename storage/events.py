"""What happened to a study, in order.

received      its first instance came                    delivery      an attempt, and what each result was answered
complete      why it counts as complete                  charged       by which destination's answer
stat          why it goes before others                  committed     its instances were promised to a modality
routed        to which models                            done, held, failed
analysed      by which model                             requeued, sent_again, cancelled, reanalysis   who asked
left_out      which image a model has not seen, and why
written       which results                              pixels_removed, erased
withdrawn     why, and who asked                         not_withdrawn: where the results have to be removed by hand
retry         an attempt that failed, and why            quota         it reached 80 or 100 % of what is included
credited      its charge was taken back, by whom
"""

import sqlalchemy as sa

from storage.database import utc_now
from storage.tables import study_events

_ADD = sa.insert(study_events)


def has_event(connection: sa.Connection, study_id: int, event: str) -> bool:
    found = sa.select(study_events.c.id).where(study_events.c.study_id == study_id, study_events.c.event == event)
    return connection.execute(found.limit(1)).first() is not None


def add_event(connection: sa.Connection, study_id: int, event: str, detail: str = "") -> None:
    """Append one line to the study's history."""
    line = {"study_id": study_id, "at": utc_now(), "event": event, "detail": detail}
    connection.execute(_ADD, line)
