"""The demonstration's worker: the one place where a model may answer outside its intended population.

It is no verb of `collimator`: only cli/demo.py starts it, as a process of its own.
"""

import sys
from pathlib import Path

from cli.worker import work

# The pediatric network is part of the project; the adult one has to be pulled. Its answer for an adult means nothing
# and every result says so.
STAND_INS = {"chest": "pediatric_chest"}

if __name__ == "__main__":
    sys.exit(work(Path(sys.argv[1]), stand_ins=STAND_INS))
