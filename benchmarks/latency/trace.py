"""Where the time of one study went, from what the node keeps: its rows, its jobs' steps, its log, the stored files.

released ─wait─> complete ─queue─> job ─read─> admit ─> hand over: analyse (decode, infer) ─> write ─> commit
                                                          ─queue─> drain ─> associate, send ─> last file is there
"""

import json
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

import sqlalchemy as sa

from benchmarks.latency.node import AFTER_RELEASE_S, Failed, Node
from storage.jobs import SCHEMA, study_job_id
from storage.tables import results, studies, study_events


@dataclass(frozen=True, kw_only=True, slots=True)
class Trace:
    """Milliseconds, in order. They add up to `total`; `decode` and `infer` are parts of `analyse`.

    late: until the study counted as complete, beyond the time after the release.
    analyse: decode, infer, and asking the analysis process.
    bookkeeping: everything between those steps: routing, quota, and making each step durable.
    total: from the release to the last result's last byte, less the time after the release.
    """

    late: float
    queue: float
    read: float
    analyse: float
    decode: float | None
    infer: float | None
    write: float
    bookkeeping: float
    queue_to_send: float
    deliver: float
    total: float


def last_stored(node: Node, study_instance_uid: str) -> float | None:
    """When the destination had the study's last result, in seconds since 1970; None: it has not all of them yet."""
    with node.database.read() as connection:
        uids = connection.scalars(
            sa.select(results.c.sop_instance_uid)
            .join(studies)
            .where(studies.c.study_instance_uid == study_instance_uid)
        ).all()
    files = [path for uid in uids for path in node.stored.glob(f"*{uid}")]
    if not uids or len(files) < len(uids):
        return None
    return max(path.stat().st_mtime_ns for path in files) / 1e9


def trace(node: Node, study_instance_uid: str, *, released_at: float, stored_at: float) -> Trace:
    """Of a study that went alone, and was the last one so far.

    Raises:
        Failed: the node does not say enough.
    """
    with node.database.read() as connection:
        study = connection.execute(sa.select(studies).where(studies.c.study_instance_uid == study_instance_uid)).one()
        written_at = connection.scalars(
            sa.select(study_events.c.at).where(study_events.c.study_id == study.id, study_events.c.event == "written")
        ).one()
        steps = _steps(connection, node, study_job_id(study.id, study.jobs))
    complete, written = study.completed_at.timestamp(), written_at.timestamp()
    lines = _lines(node.log)
    began = {line["job"]: _seconds(line) for line in lines if line.get("event") == "job_begins"}
    said = {str(line["event"]): _seconds(line) for line in lines if line.get("study_id") == study.id}
    if not {"process_study", "drain"} <= began.keys() or not {"study_analysed", "results_written"} <= said.keys():
        raise Failed("the worker's log does not say when its jobs began and what they did")
    admitting, analysing = steps["admit"], steps["hand over"]
    analysed_at, results_at = said["study_analysed"], said["results_written"]
    parts = {
        "late": complete - released_at - AFTER_RELEASE_S,
        "queue": began["process_study"] - complete,
        "read": admitting - began["process_study"],
        "analyse": analysed_at - analysing,
        "write": results_at - analysed_at,
        "bookkeeping": (analysing - admitting) + (written - results_at),
        "queue_to_send": began["drain"] - written,
        "deliver": stored_at - began["drain"],
        "total": stored_at - released_at - AFTER_RELEASE_S,
    }
    analysed = [line for line in lines if line.get("event") == "image_analysed"]
    decode, infer = (analysed[-1][name] * 1e3 if analysed else None for name in ("decode_s", "infer_s"))
    return Trace(**{name: seconds * 1e3 for name, seconds in parts.items()}, decode=decode, infer=infer)


def _steps(connection: sa.Connection, node: Node, job: str) -> dict[str, float]:
    """When each of a job's steps began. Only in a benchmark does anybody else read the engine's tables."""
    prefix = "" if node.database.is_sqlite else f"{SCHEMA}."
    rows = connection.execute(
        sa.text(f"SELECT function_name, started_at_epoch_ms FROM {prefix}operation_outputs WHERE workflow_uuid = :job"),
        {"job": job},
    )
    return {row[0]: row[1] / 1e3 for row in rows}


def _lines(log: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in log.read_text(errors="replace").splitlines() if line.startswith("{")]


def _seconds(line: dict[str, Any]) -> float:
    return datetime.fromisoformat(line["timestamp"]).timestamp()
