"""SIGKILL at any moment: what was acknowledged is there, and nothing that is half written.

The long form is `python -m tests.kill_loop --kills 1000`, or COLLIMATOR_KILLS=1000 for this test.
"""

import os
from pathlib import Path

from tests.kill_loop import kill_loop

KILLS = int(os.environ.get("COLLIMATOR_KILLS", "26"))  # of which one ends the whole role


def test_no_acknowledged_instance_is_lost_however_often_the_receiver_is_killed(tmp_path: Path) -> None:
    outcome = kill_loop(tmp_path, KILLS)
    assert outcome.kills == KILLS
    assert len(outcome.acknowledged) >= KILLS
    assert outcome.lost == []
    assert outcome.without_row == []
    assert outcome.foreign == []
    assert outcome.half_written == []
