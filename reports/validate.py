"""Is an object what the standard says it must be? Nothing leaves before this says so.

It reads the finished bytes, as a PACS would, and holds them against the tables of PS3.3 that highdicom carries:
every type 1 and type 2 attribute of the mandatory modules, no attribute that the IOD does not know, UIDs and
character sets well formed. The content tree of a Structured Report is left to the code that builds it.
"""

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from io import BytesIO

import pydicom

# highdicom keeps its reader of these tables to itself. A second copy of them would cost 0.6 s and 100 MB.
from highdicom._standard_utils import get_iod_module_map, get_module_attribute_map, get_sop_class_iod_map
from highdicom.enum import SpecificCharacterSetValues
from pydicom.datadict import keyword_for_tag
from pydicom.dataset import Dataset
from pydicom.errors import InvalidDicomError
from pydicom.tag import BaseTag

from domain.errors import Refuse

# PS3.5 9.1: components without leading zeros, 64 characters at most.
WELL_FORMED_UID = re.compile(r"(?=.{1,64}$)(0|[1-9]\d*)(\.(0|[1-9]\d*))+")
CHARACTER_SETS = frozenset(character_set.value for character_set in SpecificCharacterSetValues)
# Each attribute of the content tree belongs to one type of item, which these tables do not tell apart.
CONTENT_MODULE = "sr-document-content"
CONTENT_TREE = "ContentSequence"
# Nor which functional groups an object has, and whether for all frames or for each: they demand all of them twice.
FUNCTIONAL_GROUPS = (("SharedFunctionalGroupsSequence",), ("PerFrameFunctionalGroupsSequence",))


@dataclass(frozen=True, kw_only=True, slots=True)
class Requirement:
    """An attribute that has to be there: at `path` if the sequences of the path are, with a value if type 1."""

    path: tuple[str, ...]
    keyword: str
    needs_value: bool


@dataclass(frozen=True, kw_only=True, slots=True)
class ObjectDefinition:
    """What the standard says of one IOD. `nested` is keyed by the sequence at the top that the path starts with."""

    known: frozenset[str]
    top: tuple[Requirement, ...]
    nested: Mapping[str, tuple[Requirement, ...]]


def require_valid(content: bytes) -> None:
    """Raises:
    Refuse: the object breaks the standard; the message says where.
    """
    problems = problems_in(content)
    if problems:
        raise Refuse(
            "a result does not conform to its IOD: " + "; ".join(problems),
            reason="invalid_result",
            hint="The result was not sent. Keep the study and report this message with its headers.",
        )


def problems_in(content: bytes) -> tuple[str, ...]:
    """What is wrong with a complete DICOM file, a short sentence each; nothing if it is valid."""
    try:
        dataset = pydicom.dcmread(BytesIO(content))
    except (InvalidDicomError, EOFError, ValueError) as error:
        return (f"not a DICOM file: {error}",)
    sop_class_uid = str(dataset.get("SOPClassUID", ""))
    if not is_known_sop_class(sop_class_uid):
        return (f"SOP Class UID {sop_class_uid!r} is not in PS3.3",)
    definition = _definition_of(sop_class_uid)
    return (
        *_missing(dataset, definition),
        *_unknown(dataset, definition),
        *_malformed_uids(dataset.file_meta, ()),
        *_malformed_uids(dataset, ()),
        *_file_meta_that_disagrees(dataset),
        *_unknown_character_sets(dataset),
    )


def is_known_sop_class(sop_class_uid: str) -> bool:
    return sop_class_uid in get_sop_class_iod_map()


def may_lack_frame_of_reference(sop_class_uid: str) -> bool:
    """Whether an image of this class can do without a position in space, as radiographs do."""
    modules = get_iod_module_map()[get_sop_class_iod_map()[sop_class_uid]]
    return all(module["key"] != "frame-of-reference" or module["usage"] != "M" for module in modules)


@lru_cache(maxsize=16)
def _definition_of(sop_class_uid: str) -> ObjectDefinition:
    known: set[str] = set()
    top: list[Requirement] = []
    nested: dict[str, list[Requirement]] = {}
    for module in get_iod_module_map()[get_sop_class_iod_map()[sop_class_uid]]:
        for attribute in get_module_attribute_map()[module["key"]]:
            path = tuple(attribute["path"])
            if not path:
                known.add(attribute["keyword"])
            if module["usage"] != "M" or module["key"] == CONTENT_MODULE or attribute["type"] not in ("1", "2"):
                continue
            if path in FUNCTIONAL_GROUPS:
                continue
            requirement = Requirement(path=path, keyword=attribute["keyword"], needs_value=attribute["type"] == "1")
            if path:
                nested.setdefault(path[0], []).append(requirement)
            else:
                top.append(requirement)
    return ObjectDefinition(
        known=frozenset(known),
        top=tuple(top),
        nested={keyword: tuple(requirements) for keyword, requirements in nested.items()},
    )


def _missing(dataset: Dataset, definition: ObjectDefinition) -> Iterator[str]:
    yield from _unmet([dataset], definition.top)
    for keyword, requirements in definition.nested.items():
        if keyword in dataset:
            yield from _unmet([dataset], requirements)


def _unmet(datasets: Sequence[Dataset], requirements: Iterable[Requirement]) -> Iterator[str]:
    for requirement in requirements:
        for item in _items_at(datasets, requirement.path):
            name = "/".join((*requirement.path, requirement.keyword))
            if requirement.keyword not in item:
                yield f"{name} is missing"
            elif requirement.needs_value and item[requirement.keyword].is_empty:
                yield f"{name} is empty"


def _items_at(datasets: Sequence[Dataset], path: Sequence[str]) -> Sequence[Dataset]:
    for keyword in path:
        datasets = [item for dataset in datasets for item in dataset.get(keyword, None) or ()]
    return datasets


def _unknown(dataset: Dataset, definition: ObjectDefinition) -> Iterator[str]:
    for tag in _tags(dataset):
        keyword = keyword_for_tag(tag)
        if keyword not in definition.known:
            yield f"{keyword or tag} does not belong to this IOD"


def _malformed_uids(dataset: Dataset, path: tuple[str, ...]) -> Iterator[str]:
    for tag in _tags(dataset):
        keyword = keyword_for_tag(tag)
        if keyword in (CONTENT_TREE, "PixelData"):
            continue
        vr = dataset.get_item(tag).VR
        if vr == "SQ":
            for item in dataset[tag].value:
                yield from _malformed_uids(item, (*path, keyword))
        elif vr == "UI" and not _are_well_formed(dataset[tag].value):
            yield f"{'/'.join((*path, keyword))} is not a UID"


def _tags(dataset: Dataset) -> tuple[BaseTag, ...]:
    # Going through the data set itself would decode every element, the picture with them.
    return tuple(dataset.keys())


def _are_well_formed(value: object) -> bool:
    values = [value] if isinstance(value, str) or not isinstance(value, Sequence) else value
    return all(WELL_FORMED_UID.fullmatch(str(one)) for one in values)


def _file_meta_that_disagrees(dataset: Dataset) -> Iterator[str]:
    """PS3.10 7.1: the File Meta Information repeats what the Data Set says."""
    pairs = (("MediaStorageSOPClassUID", "SOPClassUID"), ("MediaStorageSOPInstanceUID", "SOPInstanceUID"))
    for in_file_meta, in_dataset in pairs:
        if dataset.file_meta.get(in_file_meta) != dataset.get(in_dataset):
            yield f"{in_file_meta} and {in_dataset} differ"


def _unknown_character_sets(dataset: Dataset) -> Iterator[str]:
    """PS3.3 C.12.1.1.2. Without the attribute all text is in the default repertoire, which needs no name."""
    value = dataset.get("SpecificCharacterSet") or ()
    terms = [value] if isinstance(value, str) else list(value)
    for term in terms[1:] if len(terms) > 1 and not terms[0] else terms:
        if term not in CHARACTER_SETS:
            yield f"Specific Character Set {term!r} is not defined"
