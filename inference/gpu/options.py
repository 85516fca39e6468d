"""What an owner process is told when it is started."""

import json
from dataclasses import asdict, dataclass

MOST_OUTPUT_BYTES = 256 << 20  # in one message from it; of a large batch the outputs come in several


@dataclass(frozen=True, kw_only=True, slots=True)
class OwnerOptions:
    """
    device: "cuda:0", "cpu".
    largest_batch: images that go through a network together, at most.
    batch_wait_s: how long an image waits for others while the device is busy.
    memory_mb: budget of all networks together; 0: nine tenths of what is free at the start.
    lock_dir: a folder in which one owner of the device at a time holds a lock; "": nobody else is there to want it.
    """

    device: str
    largest_batch: int
    batch_wait_s: float
    memory_mb: int
    lock_dir: str = ""

    def as_json(self) -> str:
        return json.dumps(asdict(self))
