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
from pydicom.datadict import keyword_for_tag, tag_for_keyword
from pydicom.dataelem import DataElement, RawDataElement
from pydicom.dataset import Dataset
from pydicom.errors import InvalidDicomError
from pydicom.tag import BaseTag, Tag

from domain.errors import Refuse
from reports.character_sets import DEFINED_TERMS

# PS3.5 9.1: components without leading zeros, 64 characters at most.
WELL_FORMED_UID = re.compile(r"(?=.{1,64}$)(0|[1-9]\d*)(\.(0|[1-9]\d*))+")
# Each attribute of the content tree belongs to one type of item, which these tables do not tell apart.
CONTENT_MODULE = "sr-document-content"
# Not looked into for UIDs: that tree, and the picture.
OPAQUE = frozenset({Tag("ContentSequence"), Tag("PixelData")})
NOTHING = b" \0"
# Nor which functional groups an object has, and whether for all frames or for each: they demand all of them twice.
FUNCTIONAL_GROUPS = ([Tag("SharedFunctionalGroupsSequence")], [Tag("PerFrameFunctionalGroupsSequence")])


@dataclass(frozen=True, kw_only=True, slots=True)
class Requirement:
    """An attribute that has to be there: at `path` if the sequences of the path are, with a value if type 1."""

    path: tuple[BaseTag, ...]
    tag: BaseTag
    needs_value: bool

    @property
    def name(self) -> str:
        return "/".join(map(keyword_for_tag, (*self.path, self.tag)))


@dataclass(frozen=True, kw_only=True, slots=True)
class ObjectDefinition:
    """What the standard says of one IOD. `nested` is keyed by the sequence at the top that the path starts with."""

    known: frozenset[BaseTag]
    top: tuple[Requirement, ...]
    nested: Mapping[BaseTag, tuple[Requirement, ...]]


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
    known: set[BaseTag] = set()
    top: list[Requirement] = []
    nested: dict[BaseTag, list[Requirement]] = {}
    for module in get_iod_module_map()[get_sop_class_iod_map()[sop_class_uid]]:
        for attribute in get_module_attribute_map()[module["key"]]:
            tags = [tag_for_keyword(keyword) for keyword in (*attribute["path"], attribute["keyword"])]
            if None in tags:  # of a repeating group (60xx), which no result has
                continue
            *path, tag = (Tag(number) for number in tags if number is not None)
            if not path:
                known.add(tag)
            if module["usage"] != "M" or module["key"] == CONTENT_MODULE or attribute["type"] not in ("1", "2"):
                continue
            if path in FUNCTIONAL_GROUPS:
                continue
            requirement = Requirement(path=tuple(path), tag=tag, needs_value=attribute["type"] == "1")
            if path:
                nested.setdefault(path[0], []).append(requirement)
            else:
                top.append(requirement)
    return ObjectDefinition(
        known=frozenset(known),
        top=tuple(top),
        nested={tag: tuple(requirements) for tag, requirements in nested.items()},
    )


def _missing(dataset: Dataset, definition: ObjectDefinition) -> Iterator[str]:
    yield from _unmet([dataset], definition.top)
    present = dataset.keys()
    for tag, requirements in definition.nested.items():
        if tag in present:
            yield from _unmet([dataset], requirements)


def _unmet(datasets: Sequence[Dataset], requirements: Iterable[Requirement]) -> Iterator[str]:
    for requirement in requirements:
        for item in _items_at(datasets, requirement.path):
            if requirement.tag not in item.keys():  # noqa: SIM118  # the data set itself would look for a keyword
                yield f"{requirement.name} is missing"
            elif requirement.needs_value and _is_empty(item, requirement.tag):
                yield f"{requirement.name} is empty"


def _is_empty(item: Dataset, tag: BaseTag) -> bool:
    element = item.get_item(tag)
    if isinstance(element, RawDataElement) and (element.value or b"").strip(NOTHING):
        return False
    return bool(item[tag].is_empty)  # blanks may be a value, and zeros are


def _items_at(datasets: Sequence[Dataset], path: Sequence[BaseTag]) -> Sequence[Dataset]:
    for tag in path:
        datasets = [item for dataset in datasets if tag in dataset.keys() for item in dataset[tag].value or ()]  # noqa: SIM118
    return datasets


def _unknown(dataset: Dataset, definition: ObjectDefinition) -> Iterator[str]:
    for tag in _tags(dataset):
        if tag not in definition.known:
            yield f"{keyword_for_tag(tag) or tag} does not belong to this IOD"


def _malformed_uids(dataset: Dataset, path: tuple[BaseTag, ...]) -> Iterator[str]:
    for tag in _tags(dataset):
        element = dataset.get_item(tag)
        if tag in OPAQUE:
            continue
        if element.VR == "SQ":
            for item in dataset[tag].value:
                yield from _malformed_uids(item, (*path, tag))
        elif element.VR == "UI" and not _are_well_formed(element):
            yield f"{'/'.join(map(keyword_for_tag, (*path, tag)))} is not a UID"


def _tags(dataset: Dataset) -> tuple[BaseTag, ...]:
    # Going through the data set itself would decode every element, the picture with them.
    return tuple(dataset.keys())


def _are_well_formed(element: DataElement | RawDataElement) -> bool:
    """A UID, or several. One that was read is looked at as it was read."""
    if isinstance(element, RawDataElement):
        text = (element.value or b"").decode("ascii", "replace").rstrip("\0 ")
        return all(map(WELL_FORMED_UID.fullmatch, text.split("\\")))
    value = element.value
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
        if term not in DEFINED_TERMS:
            yield f"Specific Character Set {term!r} is not defined"
