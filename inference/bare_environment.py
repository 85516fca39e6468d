"""The environment of a process that touches bytes from elsewhere: what it needs, and no secret of the node's."""

import os
from pathlib import Path

KEPT = ("PATH", "LANG", "LC_ALL", "LD_LIBRARY_PATH", "TMPDIR", "TZ")
ONE_THREAD = dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), "1")
OUR_CODE = str(Path(__file__).parent.parent)


def bare_environment() -> dict[str, str]:
    """For `python -P -m inference.…`: one thread, our modules, and nothing from the current folder."""
    kept = {key: os.environ[key] for key in KEPT if key in os.environ}
    return {**kept, **ONE_THREAD, "PYTHONPATH": OUR_CODE}
