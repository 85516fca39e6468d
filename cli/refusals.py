"""Enters a configuration that was refused in the audit trail, where the node's database is there and was told.

Whoever started the verb has read the reason on stderr before: what goes wrong here is said to nobody.
"""

from datetime import timedelta
from pathlib import Path

import sqlalchemy as sa

from config.settings import RefusedSettings
from domain.errors import Misconfigured
from storage import audit
from storage.database import Database, utc_now

ACT = "configuration_refused"
# A role that is started again and again refuses the same again and again.
ONCE_IN = timedelta(days=30)
LONGEST = 1000
CONNECT_WITHIN_S = 5


def enter(error: Misconfigured) -> None:
    """Once for each refusal, with the keys and what was expected of them. No value stands in it: it may be a secret."""
    if not isinstance(error, RefusedSettings) or not error.database_url:
        return
    url = sa.make_url(error.database_url)
    if url.get_backend_name() == "sqlite" and not Path(url.database or "").is_file():
        return  # there is no node yet, and this does not begin one
    if url.get_backend_name() != "sqlite":
        url = url.update_query_dict({"connect_timeout": str(CONNECT_WITHIN_S)})
    database = Database(url.render_as_string(hide_password=False))
    try:
        with database.write() as connection:
            detail = error.keys[:LONGEST]
            audit.enter_once(connection, at=utc_now(), who="configuration", act=ACT, detail=detail, within=ONCE_IN)
    finally:
        database.close()
