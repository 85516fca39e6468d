"""Does at a worker's start what its first study would otherwise wait for: a second or two of imports and loading."""

import structlog

from domain.errors import Misconfigured, Retry
from reports.write import all_writers
from workflow.rooms import Rooms

log = structlog.get_logger()


def warm_up(rooms: Rooms) -> None:
    """Import what writes results, start the analysis process, and load every configured network into it.

    What is wrong with one is said here and again, with its consequences, of the study that needs it.
    """
    all_writers()
    try:
        for package in rooms.registry.packages():
            if package.is_configured:
                rooms.analyst.load(package.name)
    except (Misconfigured, Retry) as error:
        log.warning("not_warmed_up", error=error.message)
