"""Everything that the stand-in knows: objects by kind and id, the time, and the events that webhooks will tell.

One account, one lock, one clock. The clock is the wall's until a test clock takes its place; the real test clock moves
single customers, this one moves the whole account.
"""

import copy
import itertools
import threading
import time
from collections import defaultdict

from tests.stripe_server.problems import Json, no_such

HOUR_S, DAY_S = 3600, 86400


class Account:
    """`lag_s`: so long after it was received a meter event begins to count (aggregation is asynchronous)."""

    def __init__(self, *, account_id: str = "acct_standin", livemode: bool = False, lag_s: float = 0.0) -> None:
        self.account_id = account_id
        self.livemode = livemode
        self.lag_s = lag_s
        self.lock = threading.RLock()
        self.objects: dict[str, dict[str, Json]] = defaultdict(dict)
        self.events: list[Json] = []
        self._numbers = itertools.count(1)
        self._frozen: float | None = None

    @property
    def now(self) -> float:
        return time.time() if self._frozen is None else self._frozen

    def move_to(self, moment: float) -> None:
        self._frozen = moment

    def new_id(self, prefix: str) -> str:
        return f"{prefix}_{next(self._numbers):08d}"

    def add(self, kind: str, prefix: str, fields: Json) -> Json:
        """Keep a new object; what all have is filled in."""
        identifier = self.new_id(prefix)
        made: Json = {"id": identifier, "object": kind, "created": int(self.now), "livemode": self.livemode}
        made |= {"metadata": {}} | fields
        self.objects[kind][identifier] = made
        return made

    def get(self, kind: str, identifier: str, param: str = "id") -> Json:
        try:
            return self.objects[kind][identifier]
        except KeyError:
            raise no_such(kind.rpartition(".")[2].replace("_", " "), identifier, param) from None

    def all(self, kind: str) -> list[Json]:
        return list(self.objects[kind].values())

    def emit(self, event_type: str, about: Json, *, previous: Json | None = None) -> Json:
        """A snapshot event, as webhooks of API v1 tell it."""
        data: Json = {"object": copy.deepcopy(about)}
        if previous is not None:
            data["previous_attributes"] = previous
        event = {
            "id": self.new_id("evt"),
            "object": "event",
            "api_version": "2026-10-28.endive",
            "created": int(self.now),
            "livemode": self.livemode,
            "type": event_type,
            "data": data,
        }
        self.events.append(event)
        return event

    def emit_thin(self, event_type: str, related: Json) -> Json:
        """An event of API v2: it names what it is about and shows nothing of it."""
        event = {
            "id": self.new_id("evt"),
            "object": "v2.core.event",
            "created": int(self.now),
            "livemode": self.livemode,
            "type": event_type,
            "related_object": related,
        }
        self.events.append(event)
        return event
