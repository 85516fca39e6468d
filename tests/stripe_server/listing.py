"""Lists as Stripe gives them: the newest first, in pages."""

from tests.stripe_server.problems import Json, invalid

LONGEST_PAGE = 100


def page(objects: list[Json], params: Json, *, url: str) -> Json:
    """One page of them; `objects` are in the order in which they were made."""
    limit = int(params.get("limit", 10))
    if not 1 <= limit <= LONGEST_PAGE:
        raise invalid("limit", f"Invalid integer: limit must be between 1 and {LONGEST_PAGE}")
    newest_first = objects[::-1]
    after = params.get("starting_after")
    if after is not None:
        places = [place for place, one in enumerate(newest_first) if one["id"] == after]
        if not places:
            raise invalid("starting_after", f"No such object: '{after}'")
        newest_first = newest_first[places[0] + 1 :]
    return {"object": "list", "url": url, "data": newest_first[:limit], "has_more": len(newest_first) > limit}


def created_between(objects: list[Json], params: Json) -> list[Json]:
    """Those that `created[gte]` and its like ask for."""
    bounds = params.get("created", {})
    return [
        one
        for one in objects
        if one["created"] >= int(bounds.get("gte", 0)) and one["created"] < int(bounds.get("lt", 1 << 60))
    ]
