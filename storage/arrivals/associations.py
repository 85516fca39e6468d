"""Which studies the associations bring, so that a release tells which studies have nothing more on its way."""

from collections import OrderedDict
from dataclasses import dataclass, field

LIMIT = 10_000  # associations that are remembered; a listener has a thousand open at most


@dataclass(slots=True)
class _Bringing:
    listener: int
    study_ids: set[int] = field(default_factory=set)


class Associations:
    """For the indexer's one thread. Past the limit the oldest is forgotten; its studies close when quiet."""

    def __init__(self) -> None:
        self._open: OrderedDict[str, _Bringing] = OrderedDict()
        # What a sweep found may have come by an association of long ago: it holds up no other association's release.
        self._swept: OrderedDict[str, set[int]] = OrderedDict()

    def brought(self, association: str, listener: int, study_id: int) -> None:
        """An instance of the study has come by an association that was open then."""
        self._open.setdefault(association, _Bringing(listener)).study_ids.add(study_id)
        if len(self._open) > LIMIT:
            self._open.popitem(last=False)

    def was_swept(self, association: str, study_id: int) -> None:
        """An instance was found in the spool; whether its association is still open is not known."""
        self._swept.setdefault(association, set()).add(study_id)
        if len(self._swept) > LIMIT:
            self._swept.popitem(last=False)

    def completed_by(self, association: str) -> list[int]:
        """The studies that this association has brought, when it is released, and no open one brings, too."""
        bringing = self._open.get(association)
        brought = self._swept.get(association, set()) | (bringing.study_ids if bringing else set())
        others = (other.study_ids for name, other in self._open.items() if name != association)
        return sorted(brought.difference(*others))

    def closed(self, association: str) -> None:
        self._open.pop(association, None)
        self._swept.pop(association, None)

    def listener_began(self, listener: int) -> None:
        """What this listener had open before ended with the process."""
        for association in [name for name, one in self._open.items() if one.listener == listener]:
            del self._open[association]
