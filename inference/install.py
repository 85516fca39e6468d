"""Brings packages to where the registry finds them; no byte is used before it is known to be the right one.

pull   source_url -> size and SHA-256 -> converted in a throw-away process -> manifest completed ─┐
add    somebody's folder ────────────────────────────────────────────────────────────────────────┤
                                                       check -> installed_dir/<name>/<version> <──┘

Versions lie beside each other, and none changes any more: what it said is kept under its name.
"""

import errno
import fcntl
import hashlib
import http.client
import importlib.util
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from domain.errors import Misconfigured, Refuse, Retry
from inference.acceptance import Acceptance, accept, write_acceptance
from inference.bare_environment import bare_environment
from inference.children import LIMITS, Children, Limits
from inference.package import MANIFEST_FILE, VERSION_PATTERN, Package, Weights, load, rewritten, verified_bytes
from inference.registry import BUILTIN_DIR, Registry

NETWORK_TIMEOUT_S = 15.0  # for one answer of the network
DOWNLOAD_LIMIT_S = 1800.0  # for the whole file
CONVERSION_LIMIT_S = 900.0
BLOCK_BYTES = 1 << 20
TORCH_ROOM_BYTES = 8 << 30  # of address space: a torch with CUDA takes gigabytes of it before it has a network
MODEL_CARD_FILE = "model_card.md"
CONVERTERS_NEED = ("torch", "torchvision", "torchxrayvision", "onnx", "onnxscript", "safetensors")
CONVERT_HINT = "pip install -c constraints.txt '.[convert]'"
STAGING_PREFIX = ".incoming-"
ABANDONED_AFTER_S = 86400.0  # much longer than anything here may take
NO_ROOM = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


def pull(
    name: str, installed_dir: Path, *, accepted_licence: str = "", accepted_by: str = "", limits: Limits = LIMITS
) -> bool:
    """Fetch the published weights of a shipped package, convert them, and install the package. False: an earlier pull
    has done that, and what it left is whole; nothing was fetched.

    Args:
        accepted_licence: the name of the licence that somebody accepts; needed where it binds them.
        accepted_by: who; empty: the account that runs this.
        limits: under which the converted network has to answer.

    Raises:
        Misconfigured: there is no such package, it has nothing to pull, what converts it is not installed, or there is
            no room for it.
        Retry: the network failed.
        Refuse: the licence was not accepted, the address gave something else than the manifest says, the converted
            network answers otherwise, or another package has its name and version.
    """
    package = published(name)
    weights = package.manifest.weights
    acceptance = accept(
        weights.licence,
        accepted_name=accepted_licence,
        accepted_by=accepted_by,
        source_sha256=weights.source_sha256,
        hint=pull_command(package),
    )
    if there := _pulled(package, Registry(installed_dir), limits):
        if acceptance is not None:
            write_acceptance(there.folder, acceptance)
        return False
    if weights.converter:
        _require_converters()
    with _staging(installed_dir) as staging:
        source = staging / "source"
        download(weights.source_url, source, size_bytes=weights.source_size_bytes, sha256=weights.source_sha256)
        install_source(package, source, installed_dir, acceptance, limits=limits)
    return True


def _pulled(package: Package, registry: Registry, limits: Limits) -> Package | None:
    """What an earlier pull of the same bytes has left, if it still answers as it should. Converted by another torch
    they would be another file, and so another network under the same version.
    """
    try:
        there = registry.get(package.name, package.manifest.version)
        if there.is_configured and there.manifest.weights.source_sha256 == package.manifest.weights.source_sha256:
            check(there, limits)
            return there
    except (Misconfigured, Refuse):
        pass  # it is brought anew
    return None


def published(name: str) -> Package:
    """The shipped package of this name, whose weights can be pulled.

    Raises:
        Misconfigured: there is no such package, or it has nothing to pull.
    """
    package = Registry(BUILTIN_DIR).get(name)
    if not package.manifest.weights.source_url:
        raise Misconfigured(f"{name} has no published weights to pull", hint=package.why_not or "They come with it.")
    return package


def pull_command(package: Package) -> str:
    """The command that accepts the package's licence and pulls it."""
    return f'collimator models pull {package.name} --accept-licence "{package.manifest.weights.licence.name}"'


def add(folder: Path, installed_dir: Path, *, limits: Limits = LIMITS) -> Package:
    """Check a package that somebody brings, under the limits that it will have in service, and install a copy of it.

    Raises:
        Misconfigured: its manifest is wrong, its bytes are not the manifest's, or its golden scores are not met.
        Refuse: its network is not one graph of standard operators with all its weights inside, or another package
            has its name and version.
    """
    package = load(folder)
    if not package.is_configured:
        raise Misconfigured(f"{folder}: the package has no weights", hint=_unnamed_weights(package) or package.why_not)
    _require_its_own_version(package, Registry(installed_dir))
    with _staging(installed_dir) as staging:
        copy = staging / package.name
        copy.mkdir()
        served = {one.weights_path.name: one for one in (package, package.for_device)}
        files = [
            file for file in (MANIFEST_FILE, *served, MODEL_CARD_FILE) if file in served or (folder / file).is_file()
        ]
        for file in files:
            _require_inside(folder, file)
        for one in served.values():  # here the messages name the file that was given
            verified_bytes(one.weights_path, one.manifest.weights)
        for file in files:
            shutil.copyfile(folder / file, copy / file)
        return _install(copy, installed_dir, limits)


def _unnamed_weights(package: Package) -> str:
    """What to put into a manifest that does not say yet which bytes the file beside it has; "": there is none."""
    path = package.weights_path
    if package.manifest.weights.sha256 or not path.is_file():
        return ""
    with path.open("rb") as file:
        found = hashlib.file_digest(file, "sha256").hexdigest()
    return f'put the bytes of {path.name} into [weights]: size_bytes = {path.stat().st_size}, sha256 = "{found}"'


def _require_inside(folder: Path, file: str) -> None:
    """Whoever made a folder must not have the node copy what only the node's user may read."""
    path = folder / file
    if not path.resolve().is_relative_to(folder.resolve()):
        raise Refuse(
            f"{path}: is a link that leads out of the folder",
            reason="leads_out",
            hint="put the file itself in its place",
        )
    if path.exists() and not path.is_file():  # a pipe would be waited for without end
        raise Refuse(f"{path}: is no file", reason="no_file")


def check(package: Package, limits: Limits = LIMITS) -> None:
    """Bytes, graph and golden scores: all that can be known of a package without a patient's image.

    A network is a program, whoever made it: it is loaded and run in a child process with the limits of service.

    Raises:
        Misconfigured, Refuse: as `add`; Refuse also where its process died or took too long (not_checked).
    """
    _check(package, package, limits)
    if package.manifest.weights.device_sha256:
        for_device = package.for_device
        if for_device.manifest.weights.format == "onnx" or importlib.util.find_spec("torch"):
            _check(package, for_device, limits)
        else:  # a node without torch serves the other file; a device asks for its own golden scores before it serves
            verified_bytes(for_device.weights_path, for_device.manifest.weights)


def _check(package: Package, served: Package, limits: Limits) -> None:
    room = TORCH_ROOM_BYTES if served.manifest.weights.format == "torch" else 0
    children = Children(
        processes=1, memory_limit_bytes=limits.memory_limit_bytes + room, time_limit_s=limits.time_limit_s
    )
    try:
        children.check(str(package.folder), package.device_uid, is_for_device=served is not package)
    except Retry as error:
        raise Refuse(
            f"{package.name}: {served.weights_path.name} cannot be checked: {error.message}",
            reason="not_checked",
            hint=f"In service it would end like this: there it may take {limits.memory_limit_bytes >> 20} MiB "
            f"(inference.memory_limit_mb) and {limits.time_limit_s:g} s (inference.time_limit_s) for one image.",
        ) from error
    finally:
        children.close()


def download(url: str, target: Path, *, size_bytes: int, sha256: str) -> None:
    """Fetch a file whose size and SHA-256 are known.

    Raises:
        Retry: the network or the server failed.
        Refuse: the server will not give it (not_given), or gave something else (other_bytes).
        Misconfigured: there is no room for it.
    """
    request = urllib.request.Request(url, headers={"User-Agent": "collimator"})  # noqa: S310
    try:
        # An opener of its own: the global one remembers the proxies of its first use.
        with urllib.request.build_opener().open(request, timeout=NETWORK_TIMEOUT_S) as answer:
            found_size, found_sha256 = _save(answer, target, limit_bytes=size_bytes)
    except urllib.error.HTTPError as error:
        if error.code in (408, 429) or error.code >= 500:
            raise Retry(f"{url} cannot be downloaded now: HTTP {error.code} {error.reason}") from error
        raise Refuse(f"{url} is not given to us: HTTP {error.code} {error.reason}", reason="not_given") from error
    except (OSError, http.client.HTTPException) as error:
        if getattr(error, "errno", None) in NO_ROOM:
            raise _not_written(target.parent, error) from error
        why = getattr(error, "reason", None) or error
        raise Retry(f"{url} cannot be downloaded: {why}", hint="Is the network reachable from here?") from error
    if found_size != size_bytes or found_sha256 != sha256:
        raise Refuse(
            f"{url} gave {'more than ' * (found_size > size_bytes)}{min(found_size, size_bytes)} bytes, "
            f"SHA-256 {found_sha256[:12]}…; the manifest says {size_bytes} bytes, {sha256[:12]}…",
            reason="other_bytes",
            hint="It was not used. The file changed at its source, or something between altered it.",
        )


def install_source(
    package: Package,
    source: Path,
    installed_dir: Path,
    acceptance: Acceptance | None = None,
    *,
    limits: Limits = LIMITS,
) -> Package:
    """Convert a downloaded and checked file, complete the manifest with what came out, and install the package."""
    with _staging(installed_dir) as staging:
        copy = staging / package.name
        copy.mkdir()
        manifest_text = (package.folder / MANIFEST_FILE).read_text(encoding="utf-8")
        weights = package.manifest.weights
        if weights.converter:
            scores = _convert(weights, source, copy)
            manifest_text = rewritten(manifest_text, {"scores": f"[{', '.join(f'{score:.7f}' for score in scores)}]"})
        else:
            shutil.copyfile(source, copy / weights.file)
        known = _size_and_sha256(copy / weights.file)
        if weights.device_file:
            known |= _size_and_sha256(copy / weights.device_file, prefix="device_")
        (copy / MANIFEST_FILE).write_text(rewritten(manifest_text, known), encoding="utf-8")
        if (package.folder / MODEL_CARD_FILE).is_file():
            shutil.copyfile(package.folder / MODEL_CARD_FILE, copy / MODEL_CARD_FILE)
        if acceptance is not None:
            write_acceptance(copy, acceptance)
        return _install(copy, installed_dir, limits)


def _size_and_sha256(path: Path, *, prefix: str = "") -> dict[str, str]:
    """A file's lines in [weights], as TOML text by key."""
    content = path.read_bytes()
    digest = hashlib.sha256(content).hexdigest()
    return {f"{prefix}size_bytes": str(len(content)), f"{prefix}sha256": f'"{digest}"'}


def _install(copy: Path, installed_dir: Path, limits: Limits) -> Package:
    """Move a checked package into its place.

    The same package, installed once more, takes the place of the first file by file, each in one step, the manifest
    last: at no moment is it missing. What was accepted of it stays accepted.

    Raises:
        Misconfigured, Refuse: as `add`.
    """
    package = load(copy)
    version = package.manifest.version
    if not VERSION_PATTERN.fullmatch(version):
        raise Misconfigured(
            f"{package.name}: the version {version!r} cannot be installed",
            hint="1 to 32 letters, digits and . + _ -, the first a letter or digit: 1.4.0",
        )
    check(package, limits)
    place = installed_dir / package.name / version
    place.parent.mkdir(exist_ok=True)
    with _alone_in(place.parent):
        # Once more, also of what was pulled: checking took a while, and another may have come first.
        _require_its_own_version(package, Registry(installed_dir))
        if place.is_dir():
            for file in sorted(copy.iterdir(), key=lambda file: file.name == MANIFEST_FILE):
                file.replace(place / file.name)
        else:
            copy.rename(place)
    return load(place)


@contextmanager
def _alone_in(folder: Path) -> Iterator[None]:
    """Of all processes on this machine, the only one that installs there (flock(2))."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        with suppress(OSError):  # NFS locks no folders
            fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


def _require_its_own_version(package: Package, registry: Registry) -> None:
    """Results, comparisons and feedback are kept by version: one version is one network for good."""
    try:
        there = registry.get(package.name, package.manifest.version)
    except Misconfigured:
        return
    if there.is_configured and there.device_uid != package.device_uid:
        raise Refuse(
            f"{package.name} {package.manifest.version} is installed already, with other bytes",
            reason="version_taken",
            hint="give the changed package a version of its own"
            if not package.manifest.weights.source_url
            else f"studies may have been answered by it; to have this one instead, move {there.folder} away first",
        )


def _convert(weights: Weights, source: Path, target_dir: Path) -> tuple[float, ...]:
    """Convert `source` into the files that the manifest names; returns the reference network's golden scores.

    Unpickling runs what the file says, so it happens in a process that ends with it, has an empty home and no network,
    and writes nowhere else.
    """
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, "-P", "-m", "inference.convert", weights.converter, str(source), folder]
        environment = {**bare_environment(), "HOME": folder, "TMPDIR": folder}
        try:
            ended = subprocess.run(  # noqa: S603
                command, env=environment, cwd=folder, capture_output=True, timeout=CONVERSION_LIMIT_S, check=False
            )
        except subprocess.TimeoutExpired as error:
            message = f"the conversion took longer than {CONVERSION_LIMIT_S:g} s"
            raise Refuse(message, reason="conversion_failed") from error
        if ended.returncode:
            raise _conversion_error(ended)
        for file in filter(None, (weights.file, weights.device_file)):
            shutil.copyfile(Path(folder) / file, target_dir / file)
        return tuple(float(score) for score in json.loads((Path(folder) / "golden.json").read_text(encoding="utf-8")))


def _conversion_error(ended: subprocess.CompletedProcess[bytes]) -> Misconfigured | Refuse:
    """What the process said on its last line: JSON where it met an error that it knows."""
    try:
        said = json.loads(ended.stdout.decode(errors="replace").strip().splitlines()[-1])
        message, hint = str(said["message"]), str(said["hint"])
    except (IndexError, KeyError, TypeError, ValueError):
        last = (ended.stderr.decode(errors="replace").strip().splitlines() or [f"exit status {ended.returncode}"])[-1]
        return Refuse(f"the conversion failed: {last}"[:400], reason="conversion_failed")
    return Misconfigured(message, hint=hint) if ended.returncode == 2 else Refuse(message, reason="conversion_failed")


def _require_converters() -> None:
    """Said before anything is downloaded, and without importing a torch of hundreds of megabytes."""
    missing = [module for module in CONVERTERS_NEED if importlib.util.find_spec(module) is None]
    if missing:
        raise Misconfigured(
            f"converting needs packages that are not installed: {', '.join(missing)}", hint=CONVERT_HINT
        )


def _save(answer: http.client.HTTPResponse, target: Path, *, limit_bytes: int) -> tuple[int, str]:
    """Write what comes, up to one block beyond the limit; returns the number of bytes and their SHA-256.

    A block is what is there: whoever waits for a full one of a server that drips waits far beyond the deadline.
    """
    deadline = time.monotonic() + DOWNLOAD_LIMIT_S
    digest, size = hashlib.sha256(), 0
    with target.open("wb") as file:
        while size <= limit_bytes and (block := answer.read1(BLOCK_BYTES)):
            if time.monotonic() > deadline:
                raise TimeoutError(f"it took longer than {DOWNLOAD_LIMIT_S:g} s")
            digest.update(block)
            size += file.write(block)
    if size < limit_bytes and answer.length:
        raise ConnectionError(f"it ended after {size} bytes, {answer.length} early")
    return size, digest.hexdigest()


@contextmanager
def _staging(installed_dir: Path) -> Iterator[Path]:
    """A folder on the same file system, so that a move is one step; its name is no package's.

    Raises:
        Misconfigured: it cannot be written to, or has no room.
    """
    try:
        installed_dir.mkdir(parents=True, exist_ok=True)
        _remove_abandoned(installed_dir)
        with tempfile.TemporaryDirectory(prefix=STAGING_PREFIX, dir=installed_dir) as folder:
            yield Path(folder)
    except OSError as error:
        raise _not_written(installed_dir, error) from error


def _remove_abandoned(installed_dir: Path) -> None:
    """What a process left that was killed: a copy of the weights is large."""
    for folder in installed_dir.glob(f"{STAGING_PREFIX}*"):
        with suppress(OSError):
            if time.time() - folder.stat().st_mtime > ABANDONED_AFTER_S:
                shutil.rmtree(folder, ignore_errors=True)


def _not_written(folder: Path, error: Exception) -> Misconfigured:
    return Misconfigured(f"{folder}: nothing can be installed there: {error}")
