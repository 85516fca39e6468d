"""What happened to a study, in order.

received      its first instance came                    delivery      an attempt, and what each result was answered
complete      why it counts as complete                  charged       by which destination's answer
stat          why it goes before others                  committed     its instances were promised to a modality
routed        to which models                            done, held, failed
analysed      by which model                             requeued, sent_again, cancelled, reanalysis   who asked
written       which results                              pixels_removed, erased
retry         an attempt that failed, and why            quota         it reached 80 or 100 % of what is included
credited      its charge was taken back, by whom
"""

import sqlalchemy as sa

from storage.database import utc_now
from storage.tables import study_events


def add_event(connection: sa.Connection, study_id: int, event: str, detail: str = "") -> None:
    """Append one line to the study's history."""
    connection.execute(sa.insert(study_events).values(study_id=study_id, at=utc_now(), event=event, detail=detail))
