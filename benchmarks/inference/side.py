"""One of the two ways as a process of its own: a question a line, JSON in and JSON out, and a watch for each stage."""

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path

from inference.bare_environment import ONE_THREAD


class Failed(Exception):
    """There is no figure."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Question:
    """overlay: "page", what the node writes, with the film within 800 x 1,040 pixels; "film", the film at its full
    size; "none", the network's forward pass only, in torch's inference mode.
    """

    image: str
    overlay: str


@dataclass(slots=True)
class Answer:
    """cpu_ms, wall_ms: by stage. failure: why there is nothing else."""

    cpu_ms: dict[str, float] = field(default_factory=dict)
    wall_ms: dict[str, float] = field(default_factory=dict)
    scores: list[float] = field(default_factory=list)
    failure: str = ""

    @contextmanager
    def watched(self, stage: str) -> Iterator[None]:
        """CPU of all threads of this process."""
        cpu, wall = time.process_time(), time.perf_counter()
        yield
        self.cpu_ms[stage] = (time.process_time() - cpu) * 1e3
        self.wall_ms[stage] = (time.perf_counter() - wall) * 1e3


def answer_by_line(answer: Callable[[Question], Answer]) -> None:
    """In the process: until there are no more questions. On one core, so that no library finds a second one."""
    os.sched_setaffinity(0, {max(os.sched_getaffinity(0))})
    for line in sys.stdin:
        try:
            answered = answer(Question(**json.loads(line)))
        except Exception as error:  # a decoder that is not there, say: the other way goes on
            answered = Answer(failure=f"{type(error).__name__}: {error}"[:300])
        print(json.dumps(asdict(answered)), flush=True)


class Side:
    """The other end of it."""

    def __init__(self, module: str, folder: Path) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-W", "ignore", "-m", module, str(folder)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
            env={**os.environ, **ONE_THREAD},
        )

    def ask(self, question: Question) -> Answer:
        """
        Raises:
            Failed: there is no answer.
        """
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        try:
            self._process.stdin.write(json.dumps(asdict(question)) + "\n")
            self._process.stdin.flush()
            line = self._process.stdout.readline()
        except OSError as error:
            raise Failed("the process ended") from error
        if not line:
            raise Failed("the process ended")
        answer = Answer(**json.loads(line))
        if answer.failure:
            raise Failed(answer.failure)
        return answer

    def close(self) -> None:
        self._process.kill()
        self._process.communicate()
