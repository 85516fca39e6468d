"""Lets those who write to one SQLite database go one after the other, whichever thread or process they are in.

SQLite makes who waits for its write lock ask again and again, every 0.1 s at last, and whoever asks at the right moment
gets it: beside one who writes without pause the others may wait for seconds. Here the kernel wakes who waits.

    take `next`  ->  take `turn`  ->  give `next` back  ->  write  ->  give `turn` back

Only the one who has `next` waits for `turn`, so nobody who has just written overtakes those who wait. Both are locks on
empty files beside the database; a process that dies gives them back. Whoever writes without them, as the program
`sqlite3` does, still has SQLite's own lock.
"""

import fcntl
import os


class Turnstile:
    """Of one database, by the name of its file."""

    def __init__(self, database: str) -> None:
        self._next = f"{database}-next"
        self._turn = f"{database}-turn"

    def take_turn(self) -> int:
        """Wait for it, as long as others write. What comes back is for `leave`."""
        next_one = _locked(self._next)
        try:
            return _locked(self._turn)
        finally:
            os.close(next_one)

    @staticmethod
    def leave(turn: int) -> None:
        os.close(turn)


def _locked(path: str) -> int:
    """A lock belongs to an open file, not to a process: so it also keeps threads apart."""
    file = os.open(path, os.O_RDONLY | os.O_CREAT | os.O_CLOEXEC, 0o644)
    try:
        fcntl.flock(file, fcntl.LOCK_EX)
    except BaseException:
        os.close(file)
        raise
    return file
