"""Who has signed in with a browser: 256 random bits in a cookie, kept as their SHA-256, for as long as they are used.

A session is worth what its API key is worth: it ends when the key is revoked.
"""

import secrets
from datetime import timedelta
from hashlib import sha256

import sqlalchemy as sa

from storage.api_keys import ApiKey, find_key
from storage.database import Database, utc_now
from storage.tables import api_keys, sessions

IDLE = timedelta(minutes=15)
LONGEST = timedelta(hours=12)
# So often at the most is written down that it is used.
NOTED = timedelta(minutes=1)
TOKEN_BYTES = 32


def begin_session(database: Database, key: str) -> str | None:
    """The session's token, which nobody can read again; None: the key is not valid. Those that are over go."""
    found = find_key(database, key)
    if found is None:
        return None
    token, now = secrets.token_urlsafe(TOKEN_BYTES), utc_now()
    with database.write() as connection:
        connection.execute(
            sa.delete(sessions).where(sa.or_(sessions.c.seen_at < now - IDLE, sessions.c.began_at < now - LONGEST))
        )
        connection.execute(
            sa.insert(sessions).values(token_sha256=_digest(token), key_name=found.name, began_at=now, seen_at=now)
        )
    return token


def find_session(database: Database, token: str) -> ApiKey | None:
    """The key that signed in; None: there is no such session, or it is over."""
    now = utc_now()
    this = sessions.c.token_sha256 == _digest(token)
    query = (
        sa.select(api_keys, sessions.c.seen_at)
        .join(sessions, sessions.c.key_name == api_keys.c.name)
        .where(
            this,
            api_keys.c.revoked_at.is_(None),
            sessions.c.seen_at >= now - IDLE,
            sessions.c.began_at >= now - LONGEST,
        )
    )
    with database.read() as connection:
        row = connection.execute(query).first()
    if row is None:
        return None
    if row.seen_at < now - NOTED:
        with database.write() as connection:
            connection.execute(sa.update(sessions).where(this).values(seen_at=now))
    return ApiKey(name=row.name, role=row.role, clinic=row.clinic, created_at=row.created_at, revoked_at=None)


def end_session(database: Database, token: str) -> None:
    with database.write() as connection:
        connection.execute(sa.delete(sessions).where(sessions.c.token_sha256 == _digest(token)))


def _digest(token: str) -> str:
    return sha256(token.encode()).hexdigest()
