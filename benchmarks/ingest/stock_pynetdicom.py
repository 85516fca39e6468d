"""The receiver that pynetdicom's own documentation leads to: its defaults, the decoded data set, `save_as`.

usage: stock_pynetdicom.py AE_TITLE PORT FOLDER
"""

import sys
from pathlib import Path

from pynetdicom import AE, AllStoragePresentationContexts, evt
from pynetdicom.events import Event
from pynetdicom.sop_class import Verification  # type: ignore[attr-defined]


def main() -> None:
    ae_title, port, folder = sys.argv[1], int(sys.argv[2]), Path(sys.argv[3])

    def on_store(event: Event) -> int:
        dataset = event.dataset
        dataset.file_meta = event.file_meta
        dataset.save_as(folder / f"{dataset.SOPInstanceUID}.dcm", enforce_file_format=True)
        return 0x0000

    entity = AE(ae_title)
    entity.supported_contexts = AllStoragePresentationContexts
    entity.add_supported_context(Verification)
    entity.start_server(("127.0.0.1", port), block=True, evt_handlers=[(evt.EVT_C_STORE, on_store)])


if __name__ == "__main__":
    main()
