"""The process that decodes and infers for inference/children.py: limited, niced, without the node's environment.

    python -m inference.child CONNECTION_FD MEMORY_LIMIT_BYTES TIME_LIMIT_S NICENESS

It answers one request at a time and ends when its parent closes the connection or dies. A request is JSON and the
descriptor of an image (SCM_RIGHTS, unix(7)); it answers with JSON and raw bytes. For a device it only prepares the
image, and writes the network's input into the tray whose descriptor follows (inference/gpu/trays.py). A package is
checked without an image, before it is installed (inference/install.py).
"""

import json
import os
import resource
import sys
import time
import traceback
from collections import OrderedDict
from collections.abc import Callable
from contextlib import suppress
from math import ceil
from multiprocessing.connection import Connection
from multiprocessing.reduction import recv_handle
from pathlib import Path
from typing import Any

from domain.errors import Misconfigured, Refuse
from inference import package, pixels
from inference.network import Network, check, check_for_device
from inference.no_network import take_network_away

MAX_REQUEST_BYTES = 64 * 1024
DESCRIPTORS = {"analyse": 1, "prepare": 2, "display": 1, "check": 0}  # that follow a request
EXHAUSTED = b'{"exhausted": true}'  # made beforehand: there is no memory left then
KEPT_NETWORKS = 8
# The overlay asks for an image that was analysed a moment ago, and several studies are under way at the same time.
KEPT_RADIOGRAPHS = 8
KEPT_SHARE = 16  # and they take at most one part in so many of the memory that the process may have


def main() -> None:
    connection: Connection[bytes, bytes] = Connection(int(sys.argv[1]))
    memory_limit_bytes, time_limit_s = int(sys.argv[2]), float(sys.argv[3])
    os.nice(int(sys.argv[4]))
    resource.setrlimit(resource.RLIMIT_AS, (memory_limit_bytes, memory_limit_bytes))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))  # a core file would hold a patient's image
    with suppress(Misconfigured):  # one more wall behind the limits: where the kernel has none of the kind, they stay
        take_network_away()
    worker = Worker(kept_bytes=memory_limit_bytes // KEPT_SHARE)
    try:
        connection.send_bytes(b"{}")  # ready
    except BrokenPipeError:  # nobody waits for it any more
        return
    while True:
        try:
            request = json.loads(connection.recv_bytes(MAX_REQUEST_BYTES))
            descriptors = [recv_handle(connection) for _ in range(DESCRIPTORS[request["task"]])]
            _allow_cpu_s(time_limit_s)
            try:
                reply, attachment = worker.answer(request, *descriptors)
            finally:
                for descriptor in descriptors:
                    os.close(descriptor)
            connection.send_bytes(json.dumps(reply).encode())
            if attachment:
                connection.send_bytes(attachment)
        except (EOFError, BrokenPipeError, ConnectionResetError):
            return
        except MemoryError:
            with suppress(OSError, MemoryError):
                connection.send_bytes(EXHAUSTED)
            sys.exit("the analysis process needs more memory than it may have")  # the next one starts empty


def _allow_cpu_s(time_limit_s: float) -> None:
    """Limit the next request's processor time: with the parent gone, nobody else would stop an endless loop."""
    used = resource.getrusage(resource.RUSAGE_SELF)
    limit = ceil(used.ru_utime + used.ru_stime + time_limit_s) + 1
    resource.setrlimit(resource.RLIMIT_CPU, (limit, resource.getrlimit(resource.RLIMIT_CPU)[1]))


class PackageChanged(Exception):
    """The folder holds another package than the request was made for."""


class Worker:
    """Answers requests; keeps the networks and the latest radiographs, these up to `kept_bytes`, but always one."""

    def __init__(self, *, kept_bytes: int) -> None:
        self._kept_bytes = kept_bytes
        self._networks: OrderedDict[tuple[str, str], Network] = OrderedDict()
        self._radiographs: OrderedDict[str, pixels.Radiograph] = OrderedDict()
        self._tasks: dict[str, Callable[..., tuple[dict[str, Any], bytes]]] = {
            "analyse": self._analyse,
            "prepare": self._prepare,
            "display": self._display,
            "check": self._check,
        }

    def answer(self, request: dict[str, Any], *descriptors: int) -> tuple[dict[str, Any], bytes]:
        """The reply to a request about the image behind the first descriptor, or about none; what bytes follow it."""
        try:
            return self._tasks[request["task"]](request, *descriptors)
        except Refuse as error:
            return {"refused": {"message": error.message, "reason": error.reason, "hint": error.hint}}, b""
        except Misconfigured as error:
            return {"misconfigured": {"message": error.message, "hint": error.hint}}, b""
        except PackageChanged as error:
            return {"changed": str(error)}, b""
        except MemoryError:
            raise
        except Exception:  # the edge of the process: the parent raises it as the bug that it is
            return {"bug": traceback.format_exc()}, b""

    def _analyse(self, request: dict[str, Any], descriptor: int) -> tuple[dict[str, Any], bytes]:
        network = self._network(request["folder"], request["device_uid"])
        began_at = time.monotonic()
        radiograph = self._radiograph(request["image"], descriptor)
        decoded_at = time.monotonic()
        answer = network.answer(radiograph).as_json()
        took_s = {"decode_s": decoded_at - began_at, "infer_s": time.monotonic() - decoded_at}
        return {**answer, **took_s, "grey_mean": pixels.grey_mean(radiograph)}, b""

    def _prepare(self, request: dict[str, Any], descriptor: int, tray: int) -> tuple[dict[str, Any], bytes]:
        preprocessing = _package(request["folder"], request["device_uid"]).manifest.preprocessing
        began_at = time.monotonic()
        radiograph = self._radiograph(request["image"], descriptor)
        decoded_at = time.monotonic()
        # A tray is in memory: all of it is written at once.
        os.pwrite(tray, pixels.network_input(radiograph, preprocessing).tobytes(), 0)
        took_s = {"decode_s": decoded_at - began_at, "prepare_s": time.monotonic() - decoded_at}
        rows, columns = radiograph.stored.shape
        seen = {"rows": rows, "columns": columns, "pixel_aspect": radiograph.pixel_aspect}
        return {**seen, **took_s, "grey_mean": pixels.grey_mean(radiograph)}, b""

    def _display(self, request: dict[str, Any], descriptor: int) -> tuple[dict[str, Any], bytes]:
        radiograph = self._radiograph(request["image"], descriptor)
        image = pixels.display_image(radiograph, within=request["within"])
        sizes = ("rows", "columns", "source_rows", "source_columns")
        return {size: getattr(image, size) for size in sizes}, image.pixels

    def _check(self, request: dict[str, Any]) -> tuple[dict[str, Any], bytes]:
        found = _package(request["folder"], request["device_uid"])
        (check_for_device if request["is_for_device"] else check)(found)
        return {}, b""

    def _network(self, folder: str, device_uid: str) -> Network:
        """The network, loaded once as long as manifest and weights stay the same."""
        key = (folder, device_uid)
        if key not in self._networks:
            self._networks[key] = Network(_package(folder, device_uid))
        self._networks.move_to_end(key)
        while len(self._networks) > KEPT_NETWORKS:
            self._networks.popitem(last=False)
        return self._networks[key]

    def _radiograph(self, image: str, descriptor: int) -> pixels.Radiograph:
        """The decoded image. `image` is a name that changes with its content."""
        if image not in self._radiographs:
            self._radiographs[image] = pixels.read(f"/proc/self/fd/{descriptor}")
        self._radiographs.move_to_end(image)
        while self._has_too_many():
            self._radiographs.popitem(last=False)
        return self._radiographs[image]

    def _has_too_many(self) -> bool:
        count, size = len(self._radiographs), sum(one.stored.nbytes for one in self._radiographs.values())
        return count > KEPT_RADIOGRAPHS or (count > 1 and size > self._kept_bytes)


def _package(folder: str, device_uid: str) -> package.Package:
    found = package.load(Path(folder))
    if found.device_uid != device_uid:
        # Installed anew since the parent read it: the result would name another model than answered.
        raise PackageChanged(f"the package {found.name} was installed anew a moment ago")
    return found


if __name__ == "__main__":
    main()
