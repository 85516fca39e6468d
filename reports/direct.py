"""An object that few destinations ask for: highdicom builds all of it, and pydicom writes it, each time anew.

It costs what draft.py saves, and needs none of its care for what differs from study to study.
"""

from collections.abc import Callable
from dataclasses import dataclass
from io import BytesIO

import pydicom
from pydicom.dataset import Dataset

from reports.encoding import without_lengths
from reports.material import Material
from reports.provenance import Form, series_instance_uid, sop_instance_uid


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class DirectDraft:
    """One object of `form`. direct: makes all of it with highdicom."""

    material: Material
    form: Form
    direct: Callable[[], Dataset]

    @property
    def series_instance_uid(self) -> str:
        return series_instance_uid(self.material, self.form)

    @property
    def sop_instance_uid(self) -> str:
        return sop_instance_uid(self.material, self.form)

    def encode(self) -> bytes:
        """The complete file (PS3.10 7), in the form that Draft gives it."""
        dataset = without_lengths(self.direct())
        if "ContentSequence" in dataset:
            dataset["ContentSequence"].is_undefined_length = False
        buffer = BytesIO()
        pydicom.dcmwrite(buffer, dataset, enforce_file_format=True)
        return buffer.getvalue()
