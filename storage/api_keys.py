"""The portal's API keys: 256 random bits shown once, kept only as their SHA-256.

A key that strong needs no slow hash and no salt: nobody can try enough of them, and the hash is looked up by index.
"""

import secrets
from dataclasses import dataclass
from datetime import datetime
from hashlib import sha256

import sqlalchemy as sa

from domain.errors import Refuse
from storage.database import Database, utc_now
from storage.tables import api_keys, clinics

# So that secret scanners, and people who find one in a file, know what it is.
KEY_PREFIX = "clm_"
KEY_BYTES = 32


@dataclass(frozen=True, kw_only=True, slots=True)
class ApiKey:
    """What is known about a key, without the key. `clinic` None: it sees every clinic."""

    name: str
    role: str
    clinic: str | None
    created_at: datetime
    revoked_at: datetime | None


def create_key(database: Database, *, name: str, role: str, clinic: str | None = None) -> str:
    """Make a key and return it; nobody can read it again.

    Raises:
        Refuse: the name was used before, even by a key that is revoked now, or there is no such clinic.
    """
    key = KEY_PREFIX + secrets.token_urlsafe(KEY_BYTES)
    with database.write() as connection:
        if connection.scalar(sa.select(api_keys.c.id).where(api_keys.c.name == name)) is not None:
            raise Refuse(
                f"there is or was a key named {name!r}", reason="name_taken", hint="a key's name is used only once"
            )
        if clinic is not None and connection.scalar(sa.select(clinics.c.name).where(clinics.c.name == clinic)) is None:
            raise Refuse(f"there is no clinic {clinic!r}", reason="unknown_clinic", hint="see [[clinics]]")
        connection.execute(
            sa.insert(api_keys).values(
                name=name, key_sha256=_digest(key), role=role, clinic=clinic, created_at=utc_now()
            )
        )
    return key


def find_key(database: Database, key: str) -> ApiKey | None:
    """The valid key that these characters are, if any."""
    query = sa.select(api_keys).where(api_keys.c.key_sha256 == _digest(key), api_keys.c.revoked_at.is_(None))
    with database.read() as connection:
        row = connection.execute(query).first()
    return None if row is None else _api_key(row)


def list_keys(database: Database) -> list[ApiKey]:
    """Every key there is or was, by name."""
    with database.read() as connection:
        return [_api_key(row) for row in connection.execute(sa.select(api_keys).order_by(api_keys.c.name))]


def revoke_key(database: Database, name: str) -> None:
    """End a key, from the next request on; its row stays, for the record.

    Raises:
        Refuse: no valid key has this name.
    """
    with database.write() as connection:
        revoked = connection.execute(
            sa.update(api_keys)
            .where(api_keys.c.name == name, api_keys.c.revoked_at.is_(None))
            .values(revoked_at=utc_now())
        )
    if not revoked.rowcount:
        raise Refuse(f"there is no valid key named {name!r}", reason="unknown_key", hint="see `collimator keys list`")


def _digest(key: str) -> str:
    return sha256(key.encode()).hexdigest()


def _api_key(row: sa.Row[tuple[object, ...]]) -> ApiKey:
    return ApiKey(name=row.name, role=row.role, clinic=row.clinic, created_at=row.created_at, revoked_at=row.revoked_at)
