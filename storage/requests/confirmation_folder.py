"""What the receiver has to know of the commitments that destinations were asked for, and what they reported, on disk.

    confirmations/<Transaction UID>.json     who was asked under it, durable before it is asked
    requests/reports/<key>.json              each report, on its way into the database

The receiver has no database: without these files it could not tell a report that somebody owes from one that nobody
asked for. Where machines share a store, who was asked is there, for the report may come to another one.
"""

import json
import re
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from io import BytesIO
from pathlib import Path

from domain.commitment import REMEMBERED_FOR_DAYS
from domain.confirmation import Report
from storage.durable_files import remove_abandoned, remove_old, sync_directory, write_durably
from storage.plain import from_plain, to_plain
from storage.requests.files import RequestBox
from storage.shared.store import SharedStore

REPORTS = "reports"
CONFIRMATIONS = "confirmations"
# PS3.5 B.2: a UID that is made from a random number. What a peer says is a file's name only if it could be one of ours.
OWN_TRANSACTION_UID = re.compile(r"2\.25\.[0-9]{1,39}")


@dataclass(frozen=True, kw_only=True, slots=True)
class Asked:
    """The destination that was asked under one Transaction UID."""

    clinic: str
    destination: str


class ConfirmationFolder:
    """All that was asked of all destinations. Workers write it, receivers read it."""

    def __init__(self, data_dir: Path, *, shared: SharedStore | None = None) -> None:
        self.reports = RequestBox(data_dir, REPORTS)
        self.root = data_dir / CONFIRMATIONS
        self._shared = shared
        self.root.mkdir(parents=True, exist_ok=True)
        sync_directory(data_dir)

    def remember(self, transaction_uid: str, asked: Asked) -> None:
        """Keep durably who is asked.

        Raises:
            OSError: the disk is full, or broken.
            Away: the shared store is.
        """
        content = json.dumps(to_plain(asked)).encode()
        if self._shared is not None:
            self._shared.put(self._name(transaction_uid), content)
        else:
            write_durably(self._path(transaction_uid), content)

    def asked_under(self, transaction_uid: str) -> Asked | None:
        """Who was asked under it; None: nobody, or so long ago that it does not count any more.

        Raises:
            Away: the shared store is.
        """
        if not OWN_TRANSACTION_UID.fullmatch(transaction_uid):
            return None
        try:
            return from_plain(Asked, json.loads(self._read(transaction_uid)))
        except (FileNotFoundError, ValueError):
            return None

    def keep(self, report: Report) -> None:
        """Keep a report durably. Only then is its sender told that it has arrived.

        Raises:
            OSError: the disk is full, or broken, or too many wait already.
        """
        self.reports.put(json.dumps(to_plain(report)).encode())

    def forget_old(self) -> int:
        """Remove what was asked so long ago that nobody reports any more; how many there were."""
        self.reports.remove_leftovers()
        remove_abandoned(self.root)
        if self._shared is None:
            return remove_old(self.root, "*.json", older_than_s=REMEMBERED_FOR_DAYS * 86400.0)
        oldest = datetime.now(UTC) - timedelta(days=REMEMBERED_FOR_DAYS)
        old = [listed.name for listed in self._shared.list(CONFIRMATIONS) if listed.modified_at < oldest]
        for name in old:
            self._shared.remove(name)
        return len(old)

    def _read(self, transaction_uid: str) -> bytes:
        if self._shared is None:
            return self._path(transaction_uid).read_bytes()
        content = BytesIO()
        self._shared.get(self._name(transaction_uid), content)
        return content.getvalue()

    def _name(self, transaction_uid: str) -> str:
        return f"{CONFIRMATIONS}/{transaction_uid}.json"

    def _path(self, transaction_uid: str) -> Path:
        return self.root / f"{transaction_uid}.json"
