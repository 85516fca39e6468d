"""Which Transaction UIDs of storage commitment are in use, and for what: one small durable file for each.

    transactions/<hash of clinic, calling AE title and Transaction UID>.json

A Transaction UID stands for one request and is never used for another (PS3.4 J.3.2.1.2). The receiver has to know, when
it is asked and without a database, whether the same request comes again or another one under the same name. Nobody can
read from these files what was asked for: they hold digests only.
"""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from hashlib import sha256
from pathlib import Path

from domain.commitment import REMEMBERED_FOR_DAYS, CommitmentRequest
from domain.errors import Refuse
from storage.durable_files import locked, remove_abandoned, sync_directory, write_durably

TRANSACTIONS = "transactions"
# Of 4 KiB each on most file systems. A hospital's modalities ask some hundred times a day.
MOST_REMEMBERED = 200_000


class Transactions:
    """All transactions of all clinics. Several receiver processes may share them."""

    def __init__(self, data_dir: Path) -> None:
        self.root = data_dir / TRANSACTIONS
        self.root.mkdir(parents=True, exist_ok=True)
        sync_directory(data_dir)

    @contextmanager
    def entered(self, request: CommitmentRequest) -> Iterator[CommitmentRequest]:
        """Remember the request durably; nobody else enters one while its caller keeps it.

        What is handed out was requested later than the same request was before, whatever the clock says.

        Raises:
            Refuse: its Transaction UID stands for other instances.
            OSError: the disk is full, or broken.
        """
        path = self._path(request)
        with locked(self.root):
            before = _read(path)
            if before is not None:
                asked_sha256, requested_at = before
                if asked_sha256 != request.asked_sha256:
                    raise Refuse("the Transaction UID stands for other instances", reason="transaction_in_use")
                request = replace(
                    request, requested_at=max(request.requested_at, requested_at + timedelta(microseconds=1))
                )
            remembered = {"asked_sha256": request.asked_sha256, "requested_at": request.requested_at.isoformat()}
            write_durably(path, json.dumps(remembered).encode())
            yield request

    def forget_old(self, now: datetime | None = None) -> int:
        """Remove what was last asked for long ago, and the oldest beyond the limit; how many there were."""
        until = (now or datetime.now(UTC)).timestamp() - REMEMBERED_FOR_DAYS * 86400.0
        remove_abandoned(self.root)
        forgotten = 0
        with locked(self.root):
            newest_first = sorted(((path.stat().st_mtime, path) for path in self.root.glob("*.json")), reverse=True)
            for number, (asked_at, path) in enumerate(newest_first):
                if asked_at < until or number >= MOST_REMEMBERED:
                    path.unlink()
                    forgotten += 1
        return forgotten

    def _path(self, request: CommitmentRequest) -> Path:
        # An AE title may have a space in it, the other two have none.
        name = f"{request.clinic} {request.calling_ae_title} {request.transaction_uid}"
        return self.root / f"{sha256(name.encode()).hexdigest()}.json"


def _read(path: Path) -> tuple[str, datetime] | None:
    """(digest of what was asked for, when); None: nothing is remembered, or it cannot be read any more."""
    try:
        content = json.loads(path.read_bytes())
        return content["asked_sha256"], datetime.fromisoformat(content["requested_at"])
    except (FileNotFoundError, ValueError, KeyError, TypeError):
        return None
