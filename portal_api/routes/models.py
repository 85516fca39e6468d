"""GET /api/v1/models/{package}/comparison: how two versions of a package differ on the clinics' own studies."""

from datetime import UTC, date, datetime, time
from typing import Annotated

from fastapi import APIRouter, Depends, Query, Request

from domain.comparison import Comparison
from portal_api.asking import VERSION_PATTERN, ClinicQuery, PackageName, Problem
from portal_api.auth import requires, visible_clinics
from portal_api.parts import parts_of
from portal_api.permissions import Permission
from storage.answers.comparisons import Asked, compare_versions
from storage.api_keys import ApiKey

router = APIRouter(tags=["models"])


@router.get(
    "/api/v1/models/{package}/comparison",
    summary="How two versions of a model differ",
    responses={404: {"model": Problem, "description": "there are no two versions of it with runs to compare"}},
)
def comparison(
    request: Request,
    key: Annotated[ApiKey, Depends(requires(Permission.MODELS))],
    package: PackageName,
    from_version: Annotated[str, Query(alias="from", pattern=VERSION_PATTERN, description="a version")] = "",
    to_version: Annotated[str, Query(alias="to", pattern=VERSION_PATTERN, description="a version")] = "",
    clinic: ClinicQuery = None,
    since: Annotated[date | None, Query(description="only what ran from this day on, in UTC")] = None,
) -> Comparison:
    """Agreement, differences of scores and times on the images at which both have looked. Left out, `from` is the
    active version that ran last, and `to` the one beside it that ran last.
    """
    asked = Asked(
        package=package,
        from_version=from_version,
        to_version=to_version,
        clinics=visible_clinics(key, clinic),
        since=None if since is None else datetime.combine(since, time(), UTC),
    )
    return compare_versions(parts_of(request).database, asked)
