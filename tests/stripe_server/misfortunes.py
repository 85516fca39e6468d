"""What can go wrong between Stripe and us, by script or by chance.

rate limited     429; nothing was done                    error before    500; nothing was done
error after      500; it was done                         cut before      the connection ends; nothing was done
lost answer      it was done, and nobody hears it         hang            no answer until the client gives up; done
"""

import random
import re
import threading
from collections import deque
from enum import StrEnum


class Misfortune(StrEnum):
    RATE_LIMITED = "rate limited"
    ERROR_BEFORE = "error before"
    ERROR_AFTER = "error after"
    CUT_BEFORE = "cut before"
    LOST_ANSWER = "lost answer"
    HANG = "hang"


IS_DONE = {Misfortune.ERROR_AFTER, Misfortune.LOST_ANSWER, Misfortune.HANG}
BY_CHANCE = [one for one in Misfortune if one is not Misfortune.HANG]


class Script:
    """`then` says what happens to the next requests; `by_chance` to a share of all of them."""

    def __init__(self) -> None:
        self._next: deque[tuple[str, Misfortune | None]] = deque()
        self._chance: random.Random | None = None
        self._share = 0.0
        self.happened: dict[Misfortune, int] = dict.fromkeys(Misfortune, 0)
        self.let_go = threading.Event()
        self.is_away = False

    def then(self, *misfortunes: Misfortune | None, path: str = "") -> None:
        """For the next requests whose method and path match, one each; None: nothing happens to it."""
        self._next.extend((path, one) for one in misfortunes)

    def by_chance(self, share: float, *, seed: int = 1) -> None:
        self._chance, self._share = random.Random(seed), share

    def peace(self) -> None:
        self._next.clear()
        self._chance, self.is_away = None, False

    def choose(self, method: str, path: str) -> Misfortune | None:
        """What happens to this request."""
        if self.is_away:
            return self._note(Misfortune.CUT_BEFORE)
        if self._next and re.search(self._next[0][0], f"{method} {path}"):
            return self._note(self._next.popleft()[1])
        if method == "POST" and self._chance is not None and self._chance.random() < self._share:
            return self._note(self._chance.choice(BY_CHANCE))
        return None

    def _note(self, misfortune: Misfortune | None) -> Misfortune | None:
        if misfortune is not None:
            self.happened[misfortune] += 1
        return misfortune
