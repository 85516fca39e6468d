"""The GPUs that the settings name, for the worker and for the doctor."""

from config.settings import Settings
from inference.gpu.devices import Devices
from inference.gpu.options import OwnerOptions


def open_devices(settings: Settings) -> Devices | None:
    """Not started yet; None where the settings name none."""
    inference = settings.inference
    if not inference.devices:
        return None
    options = OwnerOptions(
        device="",
        largest_batch=inference.largest_batch,
        batch_wait_s=inference.batch_wait_ms / 1000,
        memory_mb=inference.device_memory_mb,
        lock_dir=str(settings.node.data_dir.absolute()),
    )
    return Devices(
        inference.devices,
        options=options,
        pinned=frozenset(inference.pinned_packages),
        time_limit_s=inference.time_limit_s,
    )
