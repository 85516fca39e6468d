"""The state of each Modality Performed Procedure Step, as a durable file. It is the truth; the row is its copy.

    procedure_steps/<hash of clinic and SOP Instance UID>.json     the step as it is now
    requests/procedure_steps/<key>.json                            each change, on its way into the database

    write  =  the change into the box, then the file of its state, each synced. Only then is 0x0000 answered

A receiver that dies between the two has answered nothing, and the row may be ahead of the file: the modality asks
again, the same change is made, and the newest copy wins.
"""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from hashlib import sha256
from pathlib import Path

from domain.procedure_step import ProcedureStep
from storage.durable_files import locked, remove_abandoned, sync_directory, write_durably
from storage.plain import from_plain, to_plain
from storage.requests.files import RequestBox

STEPS = "procedure_steps"
FORGOTTEN_AFTER_S = 90 * 86400.0


class StepFolder:
    """All steps of all clinics. Several receiver processes may share it."""

    def __init__(self, data_dir: Path) -> None:
        self.changes = RequestBox(data_dir, STEPS)
        self.root = data_dir / STEPS
        self.root.mkdir(parents=True, exist_ok=True)
        sync_directory(data_dir)

    @contextmanager
    def locked(self) -> Iterator[None]:
        """One change at a time, in all threads and processes: a step is read and written under the same lock."""
        with locked(self.root):
            yield

    def read(self, clinic: str, sop_instance_uid: str) -> ProcedureStep | None:
        """The step as it is now, or None when there is no such step."""
        try:
            content = self._path(clinic, sop_instance_uid).read_bytes()
        except FileNotFoundError:
            return None
        return from_plain(ProcedureStep, json.loads(content))

    def write(self, step: ProcedureStep) -> None:
        """Keep the step durably as it is now. To be called under `locked`.

        Raises:
            OSError: the disk is full, or broken.
        """
        known = self.read(step.clinic, step.sop_instance_uid)
        if known is not None and known.updated_at >= step.updated_at:  # a clock that was put back
            step = replace(step, updated_at=known.updated_at + timedelta(microseconds=1))
        content = json.dumps(to_plain(step)).encode()
        self.changes.put(content)
        write_durably(self._path(step.clinic, step.sop_instance_uid), content)

    def forget_old_steps(self, now: datetime | None = None) -> int:
        """Remove the files of steps that did not change for ninety days; how many there were."""
        until = (now or datetime.now(UTC)).timestamp() - FORGOTTEN_AFTER_S
        forgotten = 0
        with self.locked():
            for path in self.root.glob("*.json"):
                if path.is_file() and path.stat().st_mtime < until:
                    path.unlink()
                    forgotten += 1
        return forgotten

    def forget_study(self, clinic: str, study_instance_uid: str) -> int:
        """Remove everything that was said of this study, changes on their way included; how many files that were."""

        def is_of_study(content: bytes | None) -> bool:
            try:
                step = None if content is None else from_plain(ProcedureStep, json.loads(content))
            except ValueError:  # damaged: what it is about cannot be told
                return False
            return step is not None and (step.clinic, step.study_instance_uid) == (clinic, study_instance_uid)

        with self.locked():
            changes = [key for key in self.changes.waiting() if is_of_study(self.changes.read(key))]
            states = [path for path in self.root.glob("*.json") if path.is_file() and is_of_study(path.read_bytes())]
            for key in changes:
                self.changes.remove(key)
            for path in states:
                path.unlink()
        return len(changes) + len(states)

    def remove_leftovers(self) -> int:
        """Remove what was begun long ago and never finished; how many files that were."""
        return remove_abandoned(self.root) + self.changes.remove_leftovers()

    def _path(self, clinic: str, sop_instance_uid: str) -> Path:
        name = sha256(f"{clinic} {sop_instance_uid}".encode()).hexdigest()  # neither of the two has a space in it
        return self.root / f"{name}.json"
