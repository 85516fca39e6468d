"""Brings in what is in the shared store and has no row: what the sweep is for the spool.

    names in the store, 500 at a time  ->  those without a row  ->  sorted by when they were put there  ->  rows

A machine that burned leaves instances that were acknowledged, or were on their way, and that it never told the database
of; what a row needs is in each file. What should have been removed while the store was away has no row, either, or one
that says that it is removed: it goes now.
"""

from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import datetime, timedelta
from itertools import islice

import structlog
from sqlalchemy.exc import DBAPIError

from domain.errors import Away
from storage.arrivals.indexer import REFUSED_BY_DATABASE
from storage.content import content_sha256
from storage.database import Database, utc_now
from storage.headers import read_stored_instance
from storage.instances import Spool
from storage.intake import Verdict, record_instances, replaces_lost, unknown_keys

log = structlog.get_logger()

NAMES_AT_ONCE = 500


def adopt(
    database: Database, spool: Spool, *, older_than: timedelta, on_found: Callable[[int], None] = lambda count: None
) -> Counter[Verdict]:
    """Record every instance in the shared store that has no row; how many became what. Doing it twice, or while a
    receiver does the same, changes nothing.

    older_than: what was put there later is left to the receiver that did it.
    on_found: is told how many there are.

    Raises:
        Away: the store is; what was not reached has no row yet.
    """
    found = sorted(_found(database, spool, utc_now() - older_than))
    on_found(len(found))
    verdicts: Counter[Verdict] = Counter()
    for _, key in found:
        verdict = _adopt(database, spool, key)
        if verdict is not None:
            verdicts[verdict] += 1
    return verdicts


def _found(database: Database, spool: Spool, until: datetime) -> Iterator[tuple[datetime, str]]:
    listed = ((modified_at, key) for key, modified_at in spool.shared_keys() if modified_at <= until)
    while some := {key: modified_at for modified_at, key in islice(listed, NAMES_AT_ONCE)}:
        for key in unknown_keys(database, list(some)):
            yield some[key], key


def _adopt(database: Database, spool: Spool, key: str) -> Verdict | None:
    """None: it could not be recorded; the log says why."""
    try:
        stored = read_stored_instance(spool, key)
        stored = replace(stored, content_sha256=content_sha256(spool, key))
        (recorded,) = record_instances(database, spool, [stored])
        if recorded.keeps_file or replaces_lost(database, spool, recorded):
            return recorded.verdict
    except FileNotFoundError:  # a receiver has dropped it meanwhile
        return None
    except (OSError, ValueError) as error:
        log.error("spool_file_unreadable", spool_key=key, error=str(error))
        return None
    except REFUSED_BY_DATABASE as error:
        log.error("instance_not_recorded", spool_key=key, error=type(error).__name__)
        return None
    except (Away, DBAPIError):
        raise
    except Exception:  # as the indexer: one must not hold up the others
        log.exception("instance_not_recorded", spool_key=key)
        return None
    spool.remove(key)
    return recorded.verdict
