"""A result without moulds: highdicom builds all of it, and pydicom writes it."""

from io import BytesIO

import pydicom

from reports.encoding import without_lengths
from reports.writer import Drafted


def written_directly(draft: Drafted) -> bytes:
    """The complete file. Of all sequences only the Content Sequence as a whole tells its length, as the node's do."""
    dataset = without_lengths(draft.direct())
    if "ContentSequence" in dataset:
        dataset["ContentSequence"].is_undefined_length = False
    buffer = BytesIO()
    pydicom.dcmwrite(buffer, dataset, enforce_file_format=True)
    return buffer.getvalue()
