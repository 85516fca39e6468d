"""Instances as they lie behind the receiver: files in the spool, and what is read from their headers."""

import zlib
from datetime import UTC, datetime
from pathlib import Path
from typing import cast

import pydicom
from pydicom.dataset import Dataset
from pydicom.filebase import DicomBytesIO
from pydicom.filewriter import write_dataset
from pydicom.uid import UID, ExplicitVRLittleEndian

from domain.study import InstanceFacts
from storage.file_meta import FileMeta, Provenance, encode_file_meta
from storage.headers import StoredInstance, read_stored_instance
from storage.instances import Spool

CR = "1.2.840.10008.5.1.4.1.1.1"
NO_SPOOL = cast(Spool, None)  # for what never comes twice: no file is looked at then
RECEIVED_AT = datetime(2026, 11, 20, 10, 15, 30, 250000, tzinfo=UTC)
CHEST = InstanceFacts(modality="CR", body_part_examined="CHEST", has_pixels=True, rows=10, columns=10)
REPORT = InstanceFacts(modality="SR")


def provenance(*, clinic: str = "st-mary", association: str = "a1", calling_ae_title: str = "MODALITY1") -> Provenance:
    return Provenance(
        clinic=clinic,
        calling_ae_title=calling_ae_title,
        called_ae_title="COLLIMATOR",
        peer_address="192.0.2.10",
        association=association,
        received_at=RECEIVED_AT,
    )


def arrival(
    key: str,
    sop_instance_uid: str = "1.2.3.1",
    *,
    study_instance_uid: str = "1.2.3",
    clinic: str = "st-mary",
    calling_ae_title: str = "MODALITY1",
    facts: InstanceFacts = CHEST,
    is_own_result: bool = False,
    problem: str = "",
    accession_number: str = "",
) -> StoredInstance:
    """One stored instance, without its file."""
    return StoredInstance(
        spool_key=key,
        provenance=provenance(clinic=clinic, calling_ae_title=calling_ae_title),
        sop_instance_uid=sop_instance_uid,
        sop_class_uid=CR,
        series_instance_uid=f"{study_instance_uid}.100",
        study_instance_uid=study_instance_uid,
        transfer_syntax_uid=str(ExplicitVRLittleEndian),
        accession_number=accession_number,
        size_bytes=1000,
        is_own_result=is_own_result,
        facts=facts,
        problem=problem,
    )


def encoded(dataset: Dataset, transfer_syntax_uid: str = ExplicitVRLittleEndian) -> bytes:
    """The data set alone, as it travels in a C-STORE request."""
    syntax = UID(transfer_syntax_uid)
    buffer = DicomBytesIO()
    buffer.is_little_endian, buffer.is_implicit_VR = syntax.is_little_endian, syntax.is_implicit_VR
    with pydicom.config.disable_value_validation():
        write_dataset(buffer, dataset)
    content = buffer.getvalue()
    if not syntax.is_deflated:
        return content
    deflate = zlib.compressobj(wbits=-zlib.MAX_WBITS)
    return deflate.compress(content) + deflate.flush()


def spooled(
    spool: Spool,
    content: Dataset | bytes,
    *,
    sop_instance_uid: str = "",
    sop_class_uid: str = "",
    transfer_syntax_uid: str = ExplicitVRLittleEndian,
    how: Provenance | None = None,
    study: str = "",
) -> str:
    """Put a data set into the spool as the receiver does; its key. Raw bytes go in as they are."""
    known = content if isinstance(content, Dataset) else Dataset()
    meta = FileMeta(
        sop_instance_uid=sop_instance_uid or str(known.get("SOPInstanceUID", "1.2.3.1")),
        sop_class_uid=sop_class_uid or str(known.get("SOPClassUID", CR)),
        transfer_syntax_uid=transfer_syntax_uid,
        provenance=how or provenance(),
    )
    file = spool.receive(study)
    file.write(encode_file_meta(meta))
    file.write(content if isinstance(content, bytes) else encoded(content, transfer_syntax_uid))
    return file.commit()


def read_back(spool: Spool, key: str) -> StoredInstance:
    return read_stored_instance(spool, key)


def files_in(folder: Path) -> list[Path]:
    return sorted(path for path in folder.rglob("*") if path.is_file())
