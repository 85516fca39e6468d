"""GET /health: is the node well? Open to anyone who can reach the port, and says nothing about any clinic."""

import shutil
from pathlib import Path

from fastapi import APIRouter, Request, Response
from pydantic import BaseModel

from portal_api.parts import Parts, parts_of
from storage.arrivals.receivers import ReceiverSign, receiver_signs
from storage.counts import workers_alive

LEAST_FREE_BYTES = 5 << 30

router = APIRouter(tags=["node"])


class Check(BaseModel):
    """One thing that was looked at."""

    name: str
    is_well: bool
    says: str


class Health(BaseModel):
    """`status` is "ok", or "failing" when any check is not well."""

    status: str
    checks: list[Check]


@router.get(
    "/health", summary="Is the node well?", responses={503: {"model": Health, "description": "something is wrong"}}
)
def health(request: Request, response: Response) -> Health:
    """Database, receivers, workers and disk: 200 when all are well, 503 with what is wrong otherwise."""
    checks = examine(parts_of(request))
    is_well = all(check.is_well for check in checks)
    response.status_code = 200 if is_well else 503
    return Health(status="ok" if is_well else "failing", checks=checks)


def examine(parts: Parts) -> list[Check]:
    """Every check; without the database neither receivers nor workers can be seen."""
    reachable = parts.database.is_reachable()
    checks = [Check(name="database", is_well=reachable, says="answers" if reachable else "does not answer")]
    if reachable:
        checks.append(_receivers(receiver_signs(parts.database)))
        alive = workers_alive(parts.database, lease_s=parts.worker_lease_s)
        says = f"{alive} alive" if alive else "none is alive: studies are received and wait"
        checks.append(Check(name="workers", is_well=alive > 0, says=says))
    if parts.data_dir is not None:
        checks.append(_space(parts.data_dir))
    return checks


def _receivers(signs: list[ReceiverSign]) -> Check:
    """One that has fallen silent is no less a fault because another one is alive."""
    if not signs:
        return Check(name="receivers", is_well=False, says="none is alive: nothing can be received")
    silent_s = [sign.seconds_ago for sign in signs if not sign.is_alive]
    says = f"{len(signs) - len(silent_s)} alive"
    if silent_s:
        says += f", {len(silent_s)} silent or not indexing, for {max(silent_s):.0f} s"
    return Check(name="receivers", is_well=not silent_s, says=says)


def _space(data_dir: Path) -> Check:
    try:
        free = shutil.disk_usage(data_dir).free
    except OSError as error:
        return Check(name="disk", is_well=False, says=f"cannot be looked at: {error.strerror}")
    says = f"{free / 1e9:.0f} GB free"
    return Check(name="disk", is_well=free > LEAST_FREE_BYTES, says=says)
