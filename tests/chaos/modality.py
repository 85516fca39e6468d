"""Sends studies at its own pace, and each one again until the node has answered 0x0000."""

import threading
import time
from pathlib import Path

import pydicom
from pydicom.data import get_testdata_file
from pydicom.dataset import Dataset
from pydicom.uid import UID

from domain.errors import Retry
from tests.factories.sources import radiograph
from tests.journeys.house import Node

# So many studies are small images made by code, then one is a real CR chest (NEMA WG-04, 7 MB).
REAL_ONE_IN = 8
# After those that were asked for, so that there is work as long as harm is done.
SLOWER = 5


class Modality(threading.Thread):
    """`acknowledged`: Study Instance UIDs, in their order. `attempts`: files sent, those that were cut off as well."""

    def __init__(self, node: Node, folder: Path, *, studies: int, pause_s: float) -> None:
        super().__init__(name="modality", daemon=True)
        self._studies = studies
        self._node, self._folder, self._pause_s = node, folder, pause_s
        self._halt = threading.Event()
        self._real = pydicom.dcmread(str(get_testdata_file("RG1_UNCR.dcm")))
        self.acknowledged: list[str] = []
        self.attempts = 0

    def run(self) -> None:
        while not self._halt.is_set():
            number = len(self.acknowledged) + 1
            study, path = self._make(number)
            while not self._store(path):
                time.sleep(0.2)
            path.unlink()
            self.acknowledged.append(study)
            is_enough = len(self.acknowledged) >= self._studies
            self._halt.wait(self._pause_s * SLOWER if is_enough else self._pause_s)

    def stop(self) -> None:
        """What it is sending is sent to its end."""
        self._halt.set()
        self.join()

    def _store(self, path: Path) -> bool:
        self.attempts += 1
        try:
            return self._node.send(path) == ["stored"]
        except Retry:
            return False

    def _make(self, number: int) -> tuple[str, Path]:
        data_set = self._real if number % REAL_ONE_IN == 0 else radiograph(number)
        study = name(data_set, number)
        path = self._folder / f"{number}.dcm"
        data_set.save_as(path, enforce_file_format=True)
        return study, path


def name(data_set: Dataset, number: int) -> str:
    """Make it a study of its own; its Study Instance UID."""
    study = f"2.25.815.{number}"
    data_set.StudyInstanceUID = study
    data_set.SeriesInstanceUID = f"{study}.1"
    data_set.SOPInstanceUID = data_set.file_meta.MediaStorageSOPInstanceUID = UID(f"{study}.1.1")
    return study
