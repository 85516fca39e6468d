"""The content tree of a Structured Report (PS3.3 C.17.3) before anything is built of it.

    Item ──direct()──>  highdicom's own content items
         ──encode()──>  the same as bytes: each kind of item is built by highdicom once, and filled ever after

Building all of a report's items takes highdicom and pydicom longer than it takes to decode an image and to ask a
network about it.
"""

from collections.abc import Callable, Hashable, Iterable
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from highdicom.sr.value_types import (
    CodeContentItem,
    CompositeContentItem,
    ContainerContentItem,
    ContentItem,
    ContentSequence,
    ImageContentItem,
    TextContentItem,
    UIDRefContentItem,
)
from pydicom.dataset import Dataset
from pydicom.uid import UID, SecondaryCaptureImageStorage

from domain.findings import Code
from reports import mould
from reports.encoding import encode_item
from reports.mould import Mould, Value
from reports.provenance import as_code

Built = ContentItem | ContentSequence
CONTAINS = "CONTAINS"
IMAGES = frozenset({SecondaryCaptureImageStorage})  # of those that the node writes
KEPT_MOULDS = 4096  # some KB each; a model of 18 labels needs 40


@dataclass(frozen=True, slots=True)
class Item:
    """One content item and those below it.

    build: makes it with highdicom, from `fixed`, `values` and one list of built items for each of `children`: an item,
        or a template of one.
    fixed: what decides the form, and is the same from study to study.
    values: what each study fills in.
    """

    build: Callable[..., Built]
    fixed: tuple[Hashable, ...] = ()
    values: tuple[Value, ...] = ()
    children: tuple[tuple["Item", ...], ...] = ()

    def direct(self) -> Built:
        """Built by highdicom, all of it."""
        return self.build(*self.fixed, *self.values, *([child.direct() for child in of] for of in self.children))

    def encode(self, encodings: list[str]) -> bytes:
        """The bytes of `direct()`, as an item of a sequence."""
        below = [b"".join(child.encode(encodings) for child in of) for of in self.children]
        return _mould(self.form, tuple(encodings)).fill(self.values, below, encodings)

    @property
    def form(self) -> "Item":
        """What is alike in all items that differ in their values only: one child stands for the others of its list."""
        marks = tuple(mould.mark(number, value) for number, value in enumerate(self.values))
        return Item(self.build, self.fixed, marks, tuple(tuple(child.form for child in of[:1]) for of in self.children))


@lru_cache(maxsize=KEPT_MOULDS)
def _mould(form: Item, encodings: tuple[str, ...]) -> Mould:
    children = [_encoded(of[0], encodings) if of else b"" for of in form.children]
    cast = mould.cast(_encoded(form, encodings), form.values, children)
    if cast.values_shown != set(range(len(form.values))):
        raise ValueError(f"{form.build.__name__} does not show every value as it was given")
    return cast


def _encoded(item: Item, encodings: tuple[str, ...]) -> bytes:
    return encode_item(built_item(item), list(encodings))


def built_item(item: Item) -> Dataset:
    """What highdicom builds of one item; of a template, the item that it consists of."""
    built = item.direct()
    (only,) = [built] if isinstance(built, Dataset) else built
    return only


def text(name: Code, value: str, relationship: str = CONTAINS) -> Item:
    return Item(_text, (name, relationship), (value,))


def code(name: Code, value: Code, relationship: str = CONTAINS) -> Item:
    return Item(_code, (name, value, relationship))


def uid(name: Code, value: str, relationship: str = CONTAINS) -> Item:
    return Item(_uid, (name, relationship), (UID(value),))


def reference(name: Code, sop_class_uid: str, sop_instance_uid: str) -> Item:
    """To an object of the node's own."""
    return Item(_reference, (name, sop_class_uid), (UID(sop_instance_uid),))


def container(name: Code, items: Iterable[Item], relationship: str | None = CONTAINS) -> Item:
    return Item(_container, (name, relationship), (), (tuple(items),))


def _text(name: Code, relationship: str, value: str) -> TextContentItem:
    return TextContentItem(name=as_code(name), value=value, relationship_type=relationship)


def _code(name: Code, value: Code, relationship: str) -> CodeContentItem:
    return CodeContentItem(name=as_code(name), value=as_code(value), relationship_type=relationship)


def _uid(name: Code, relationship: str, value: UID) -> UIDRefContentItem:
    return UIDRefContentItem(name=as_code(name), value=value, relationship_type=relationship)


def _reference(name: Code, sop_class_uid: str, sop_instance_uid: UID) -> ContentItem:
    kind = ImageContentItem if sop_class_uid in IMAGES else CompositeContentItem
    return kind(
        name=as_code(name),
        referenced_sop_class_uid=sop_class_uid,
        referenced_sop_instance_uid=sop_instance_uid,
        relationship_type=CONTAINS,
    )


def _container(name: Code, relationship: str | None, items: list[Any]) -> ContainerContentItem:
    built = ContainerContentItem(name=as_code(name), relationship_type=relationship)
    built.ContentSequence = ContentSequence(items)
    return built
