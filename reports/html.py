"""Results for a browser: a report as a page of HTML, an overlay as a PNG.

The page stands alone: no script, no style sheet, no image from elsewhere. Every text in it is escaped, for a
patient's name may hold anything.
"""

import re
from collections.abc import Iterator
from html import escape
from io import BytesIO

import pydicom
from PIL import Image
from pydicom.dataset import Dataset

# The content tree is somebody's input too: a deeper one is cut off rather than followed (ours has 4 levels).
DEEPEST = 24

STYLE = """
:root { color-scheme: light dark; }
body { font: 16px/1.5 system-ui, sans-serif; max-width: 52rem; margin: 2rem auto; padding: 0 1rem; }
h1 { font-size: 1.5rem; } h2, h3, h4, h5, h6 { font-size: 1.05rem; margin: 1.4rem 0 .3rem; }
header { margin-bottom: 1rem; }
header dl { display: grid; grid-template-columns: max-content 1fr; gap: .1rem 1rem; margin: 0; }
dt { opacity: .7; } dd { margin: 0; overflow-wrap: anywhere; }
ul { list-style: none; padding-left: 1.1rem; margin: .2rem 0; }
ul { border-left: 2px solid color-mix(in srgb, currentColor 20%, transparent); }
li { margin: .15rem 0; overflow-wrap: anywhere; }
.name { opacity: .7; } .name::after { content: ": "; } .context { font-size: .9rem; opacity: .8; }
"""

# Comment and Finding (DCM): as names of a line of text they only repeat the heading above it.
NAMES_LEFT_OUT = frozenset({"121106", "121071"})

HEADER_LINES = (
    ("Patient", "PatientName"),
    ("Patient ID", "PatientID"),
    ("Birth date", "PatientBirthDate"),
    ("Sex", "PatientSex"),
    ("Accession number", "AccessionNumber"),
    ("Study", "StudyDescription"),
    ("Study date", "StudyDate"),
    ("Result", "SeriesDescription"),
    ("Made by", "ManufacturerModelName"),
    ("Completion", "CompletionFlag"),
    ("Verification", "VerificationFlag"),
)


def sr_as_html(content: bytes) -> str:
    """Any Structured Report as a complete page; `content` is the whole DICOM file."""
    dataset = pydicom.dcmread(BytesIO(content))
    title = escape(_concept_name(dataset) or "Structured Report")
    return (
        '<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        f"<title>{title}</title>\n<style>{STYLE}</style>\n</head>\n<body>\n<h1>{title}</h1>\n"
        f"<header><dl>\n{''.join(_header_lines(dataset))}</dl></header>\n"
        f"<main>\n{''.join(_children(dataset, depth=2))}</main>\n</body>\n</html>\n"
    )


def overlay_as_png(content: bytes) -> bytes:
    """The picture of an 8-bit RGB Secondary Capture; `content` is the whole DICOM file."""
    dataset = pydicom.dcmread(BytesIO(content))
    buffer = BytesIO()
    Image.fromarray(dataset.pixel_array).save(buffer, "PNG")
    return buffer.getvalue()


def _header_lines(dataset: Dataset) -> Iterator[str]:
    for name, keyword in HEADER_LINES:
        value = str(dataset.get(keyword, "") or "")
        if keyword.endswith("Date"):
            value = _date(value)
        if value:
            yield f"<dt>{escape(name)}</dt><dd>{escape(value)}</dd>\n"


def _children(item: Dataset, depth: int) -> Iterator[str]:
    """The children of a content item: containers as sections, everything else as a list."""
    if depth > DEEPEST:
        return
    in_list = False
    for child in item.get("ContentSequence") or ():
        is_container = child.get("ValueType") == "CONTAINER"
        if in_list == is_container:
            yield "</ul>\n" if in_list else "<ul>\n"
            in_list = not in_list
        yield from _section(child, depth) if is_container else _list_item(child, depth)
    if in_list:
        yield "</ul>\n"


def _section(item: Dataset, depth: int) -> Iterator[str]:
    level = min(depth, 6)
    yield f"<section>\n<h{level}>{escape(_concept_name(item))}</h{level}>\n"
    yield from _children(item, depth + 1)
    yield "</section>\n"


def _list_item(item: Dataset, depth: int) -> Iterator[str]:
    kind = ' class="context"' if str(item.get("RelationshipType", "")).startswith("HAS ") else ""
    name = "" if _repeats_its_heading(item) else _concept_name(item)
    shown_name = f'<span class="name">{escape(name)}</span>' if name else ""
    yield f"<li{kind}>{shown_name}{escape(_value(item))}"
    yield from _children(item, depth + 1)
    yield "</li>\n"


def _repeats_its_heading(item: Dataset) -> bool:
    names = item.get("ConceptNameCodeSequence") or ()
    return item.get("ValueType") == "TEXT" and any(name.get("CodeValue") in NAMES_LEFT_OUT for name in names)


def _concept_name(item: Dataset) -> str:
    return _meaning(item.get("ConceptNameCodeSequence"))


def _meaning(sequence: object) -> str:
    """Code Meaning of a code sequence's one item."""
    items = list(sequence) if isinstance(sequence, pydicom.Sequence) else []
    return str(items[0].get("CodeMeaning", "")) if items else ""


def _value(item: Dataset) -> str:
    """What a content item says, by its Value Type (PS3.3 C.17.3.2.1)."""
    match str(item.get("ValueType", "")):
        case "TEXT":
            return str(item.get("TextValue", ""))
        case "CODE":
            return _meaning(item.get("ConceptCodeSequence"))
        case "NUM":
            return " ".join(_measured(value) for value in item.get("MeasuredValueSequence") or ())
        case "UIDREF":
            return str(item.get("UID", ""))
        case "PNAME":
            return str(item.get("PersonName", ""))
        case "DATE" | "TIME" | "DATETIME" as kind:
            keyword = {"DATE": "Date", "TIME": "Time", "DATETIME": "DateTime"}[kind]
            said = str(item.get(keyword, ""))
            return said if kind == "TIME" else _date(said)
        case "IMAGE" | "COMPOSITE" | "WAVEFORM":
            references = item.get("ReferencedSOPSequence") or ()
            return ", ".join(str(reference.get("ReferencedSOPInstanceUID", "")) for reference in references)
        case "SCOORD" | "SCOORD3D" as kind:
            return f"{item.get('GraphicType', kind)} {item.get('GraphicData', '')}"
        case other:
            return other


def _measured(value: Dataset) -> str:
    """The number and its unit in UCUM, in which a word in braces stands for things that are counted."""
    units = value.get("MeasurementUnitsCodeSequence") or ()
    unit = str(units[0].get("CodeValue", "")) if units else ""
    number = str(value.get("NumericValue", ""))
    if unit.startswith("{"):
        return f"{number.removesuffix('.0')} {unit.strip('{}')}"
    return f"{number} {unit}".strip()


def _date(said: str) -> str:
    """YYYYMMDD, and what follows it in a date with time (PS3.5 6.2), with hyphens; anything else as it is."""
    return re.sub(r"^(\d{4})(\d{2})(\d{2})", r"\1-\2-\3", said)
