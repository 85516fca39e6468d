"""The command line: one file a verb. Only here are settings read and the rooms' parts put together."""

from pathlib import Path

DEFAULT_CONFIG = Path("collimator.toml")
