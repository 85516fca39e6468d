"""A bucket of S3, or of what speaks like it, as the shared store. obstore is known here alone.

A put is atomic, small or in parts. Parts of an upload that was cut short stay in the bucket, unseen: a lifecycle rule
of the bucket removes them (docs/runbooks/many-machines.md).
"""

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

import obstore
from obstore.exceptions import BaseError, PermissionDeniedError, UnauthenticatedError
from obstore.store import S3Store

from domain.errors import Away
from storage.shared.store import Listed, NotThere

if TYPE_CHECKING:
    from obstore.store import ClientConfig, RetryConfig, S3Config

PART_BYTES = 5 << 20  # the least that S3 takes
PARTS_AT_ONCE = 2
READ_BYTES = 1 << 20
# The store is tried again by whoever needs it; here only what a moment mends.
RETRIES: "RetryConfig" = {"max_retries": 2, "retry_timeout": timedelta(seconds=10)}
CONNECT_TIMEOUT_S = 5
REQUEST_TIMEOUT_S = 60  # for one part


class SharedBucket:
    """The objects under one prefix of a bucket.

    Its threads begin with the first request: a process may be forked before that, not after.
    """

    def __init__(self, bucket: str, prefix: str, *, region: str = "", endpoint_url: str = "") -> None:
        config: S3Config = {"region": region} if region else {}
        client: ClientConfig = {"timeout": f"{REQUEST_TIMEOUT_S}s", "connect_timeout": f"{CONNECT_TIMEOUT_S}s"}
        if endpoint_url:
            config["endpoint"] = endpoint_url
            client["allow_http"] = endpoint_url.startswith("http://")
        self._where = f"s3://{bucket}/{prefix}"
        self._store = S3Store(bucket, prefix=prefix or None, config=config, client_options=client, retry_config=RETRIES)

    def put(self, name: str, content: Path | bytes) -> None:
        with self._reached():
            obstore.put(self._store, name, content, chunk_size=PART_BYTES, max_concurrency=PARTS_AT_ONCE)

    def get(self, name: str, target: BinaryIO) -> None:
        with self._reached(name):
            for piece in obstore.get(self._store, name).stream(min_chunk_size=READ_BYTES):
                target.write(piece)

    def exists(self, name: str) -> bool:
        try:
            with self._reached(name):
                obstore.head(self._store, name)
        except NotThere:
            return False
        return True

    def remove(self, name: str) -> None:
        try:
            with self._reached(name):
                obstore.delete(self._store, name)
        except NotThere:
            pass

    def list(self, prefix: str) -> Iterator[Listed]:
        with self._reached():
            for some in obstore.list(self._store, prefix):
                for one in some:
                    yield Listed(name=one["path"], size=one["size"], modified_at=one["last_modified"])

    @contextmanager
    def _reached(self, name: str = "") -> Iterator[None]:
        try:
            yield
        except FileNotFoundError as error:  # so obstore says NotFound
            if name and "NoSuchBucket" not in str(error):
                raise NotThere(name) from error
            raise Away(f"the shared store {self._where} is not there", hint="make the bucket") from error
        except (PermissionDeniedError, UnauthenticatedError) as error:
            raise Away(
                f"the shared store {self._where} does not let the node in",
                hint="check AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY and what the bucket allows them",
            ) from error
        except BaseError as error:
            raise Away(f"the shared store {self._where} cannot be reached: {_first_line(error)}") from error


def _first_line(error: Exception) -> str:
    """Without the internals that follow."""
    return str(error).partition("\n")[0][:200]
