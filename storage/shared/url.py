"""Which shared store a URL names.

file:///mnt/shared/collimator                   an existing folder; the node never makes it (folder.py)
s3://bucket/prefix?region=…&endpoint_url=…      credentials come from the environment, never from the URL
"""

from pathlib import Path
from urllib.parse import SplitResult, parse_qsl, unquote, urlsplit

from domain.errors import Misconfigured
from storage.shared.folder import SharedFolder
from storage.shared.store import SharedStore

SETTING = "storage.shared_url"
HINT = 'a folder is "file:///mnt/shared/collimator", a bucket "s3://bucket/prefix?region=eu-central-1"'
OPTIONS = frozenset({"region", "endpoint_url"})


def open_shared_store(url: str) -> SharedStore:
    """The store of this URL. It is not looked for before it is used.

    Raises:
        Misconfigured: it is no URL of a folder or a bucket.
    """
    parts = urlsplit(url)
    options = dict(parse_qsl(parts.query, keep_blank_values=True))
    if "@" in parts.netloc or options.keys() - OPTIONS:
        raise Misconfigured(
            f"{SETTING} may have the options {' and '.join(sorted(OPTIONS))}, and nothing else",
            hint="credentials come from the environment: AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY and their kin",
        )
    if parts.scheme == "file":
        return _folder(url, parts, options)
    if parts.scheme == "s3" and parts.netloc:
        from storage.shared.s3 import SharedBucket  # only now: it takes 10 MB

        return SharedBucket(parts.netloc, unquote(parts.path).strip("/"), **options)
    raise Misconfigured(f"{SETTING}: {url!r} is not the URL of a shared store", hint=HINT)


def _folder(url: str, parts: SplitResult, options: dict[str, str]) -> SharedFolder:
    path = Path(unquote(parts.path))
    if parts.netloc or options or not path.is_absolute() or path == Path("/"):
        raise Misconfigured(f"{SETTING}: {url!r} is not the URL of a folder", hint=HINT)
    return SharedFolder(path)
