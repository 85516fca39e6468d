"""Receives one instance into the spool named by the first argument, for a test that watches its system calls."""

import sys
from pathlib import Path

from storage.instances import Spool

file = Spool(Path(sys.argv[1])).receive()
file.write(b"instance")
sys.stdout.write(file.commit())
