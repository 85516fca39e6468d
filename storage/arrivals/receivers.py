"""Signs of life: each receiver renews its row in `receivers` while all of its listeners show that they are there."""

import time
from collections.abc import Callable
from dataclasses import dataclass

import sqlalchemy as sa

from storage.database import Database, database_clock
from storage.tables import receivers

BEAT_S = 5.0
SILENT_AFTER_S = 20.0
FORGOTTEN_AFTER_S = 3600.0


@dataclass(frozen=True, kw_only=True, slots=True)
class ReceiverSign:
    """When a receiver was last heard of, in seconds before now by the database's clock."""

    name: str
    seconds_ago: float

    @property
    def is_alive(self) -> bool:
        return self.seconds_ago <= SILENT_AFTER_S


class Beat:
    """The row of one receiver: that of the indexer's thread, which calls it every now and then.

    A listener that hangs or keeps dying stops the beat, although the other processes are well.
    """

    def __init__(
        self, database: Database, name: str, *, listeners: int, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._database = database
        self._name = name
        self._listeners = listeners
        self._clock = clock
        self._heard_at: dict[int, float] = {}
        self._due_at = 0.0

    def heard(self, listener: int) -> None:
        self._heard_at[listener] = self._clock()

    def beat_if_due(self) -> None:
        """Write the row when it is time to, and drop those of receivers that are long gone.

        Raises:
            DBAPIError: the database is away.
        """
        now = self._clock()
        if now < self._due_at or not self._all_are_there(now):
            return
        self._due_at = now + BEAT_S
        with self._database.write() as connection:
            seen_at = database_clock(connection)
            connection.execute(
                sa.delete(receivers).where(
                    (receivers.c.name == self._name) | (receivers.c.seen_at < seen_at - FORGOTTEN_AFTER_S)
                )
            )
            connection.execute(sa.insert(receivers).values(name=self._name, seen_at=seen_at))

    def end(self) -> None:
        """A receiver that stops in good order leaves no row to worry about.

        Raises:
            DBAPIError: the database is away.
        """
        with self._database.write() as connection:
            connection.execute(sa.delete(receivers).where(receivers.c.name == self._name))

    def _all_are_there(self, now: float) -> bool:
        heard = sum(now - at <= SILENT_AFTER_S for at in self._heard_at.values())
        return heard == self._listeners


def receiver_signs(database: Database) -> list[ReceiverSign]:
    """Every receiver that was heard of within the last hour and has not stopped in good order, by name."""
    with database.read() as connection:
        now = database_clock(connection)
        rows = connection.execute(
            sa.select(receivers).where(receivers.c.seen_at >= now - FORGOTTEN_AFTER_S).order_by(receivers.c.name)
        ).all()
    return [ReceiverSign(name=row.name, seconds_ago=max(0.0, now - row.seen_at)) for row in rows]
