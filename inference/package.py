"""A model package: a folder with `manifest.toml` and, once its weights are there, `model.onnx` or `model.safetensors`,
or both: then the CPU serves the first and a GPU the second.

The manifest says who made the model, for which images and patients it is meant, how its input is prepared, what its
outputs mean, and which bytes its weights are. A package without verified weights is *not configured*: it is listed,
with the reason, and never answers.

The network is ONNX, or torch's as inference/torch_graph.py writes it, with one input, (1, channels, S, S) float32, as
`preprocessing` says. What it gives out is its adapter's to say: "classifier" where the manifest names none
(inference/adapters/).
"""

import hashlib
import os
import re
import stat
import tomllib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import BinaryIO, Literal, get_args

from domain.errors import Misconfigured
from domain.findings import Code, ModelIdentity
from domain.snomed import has_valid_check_digit
from inference.adapters import READERS, Adapter
from inference.labels import Label, Measure
from inference.licences import Licence, licence_of
from inference.preprocess import Crop, Preprocessing, Scaling
from inference.reference import Reference, read_reference
from inference.toml_table import Table

MANIFEST_FILE = "manifest.toml"
NAME_PATTERN = re.compile(r"[a-z][a-z0-9_]{0,63}")  # also a folder name, so nothing that could leave its folder
VERSION_PATTERN = re.compile(r"[0-9A-Za-z][0-9A-Za-z.+_-]{0,31}")  # of what is installed: a folder's name as well
FILE_PATTERN = re.compile(r"[A-Za-z0-9_-]+\.(onnx|safetensors)")
CODE_STRING_PATTERN = re.compile(r"(?! )[A-Z0-9 _]{1,16}(?<! )")  # blanks around it are none of the value (PS3.5 6.2)
UID_PATTERN = re.compile(r"(?=.{1,64}$)(0|[1-9][0-9]*)(\.(0|[1-9][0-9]*))+")  # PS3.5 9.1
MAX_MANIFEST_BYTES = 256 * 1024
MANIFESTS_KEPT = 64
OTHER_FILE = "The file was changed or damaged, or the manifest is another file's."
NO_WEIGHTS_KNOWN = "No verified weights are known for it: bring your own with `collimator models add DIR`."


@dataclass(frozen=True, kw_only=True, slots=True)
class Accepts:
    """The intended population and images. No SOP Classes or views: any; an absent view is accepted."""

    modalities: tuple[str, ...]  # Modality (0008,0060)
    sop_classes: tuple[str, ...]  # SOP Class UID (0008,0016)
    body_parts: tuple[str, ...]  # terms of Body Part Examined (0018,0015), or what routing makes of them
    views: tuple[str, ...]  # View Position (0018,5101)
    age_min_years: int | None  # completed years, inclusive
    age_max_years: int | None  # completed years, inclusive
    accepts_unknown_age: bool


@dataclass(frozen=True, kw_only=True, slots=True)
class Weights:
    """Which bytes the network is, and where they come from. An empty `sha256`: nobody has verified any yet.

    device_file: the same network for a GPU, where there is a file of its own for it; "": there is none.
    """

    file: str
    size_bytes: int
    sha256: str
    licence: Licence  # its name is empty where there are no weights
    attribution: str  # whom the licence, or that of the data they were trained on, asks to name
    source_url: str
    source_sha256: str
    source_size_bytes: int
    converter: str  # name for `python -m inference.convert`; empty: the source is the ONNX file itself
    device_file: str = ""
    device_size_bytes: int = 0
    device_sha256: str = ""

    @property
    def format(self) -> Literal["onnx", "torch"]:
        return "onnx" if self.file.endswith(".onnx") else "torch"


@dataclass(frozen=True, kw_only=True, slots=True)
class Golden:
    """What the network must give for the synthetic radiograph of inference/golden.py, within `tolerance`: scores, or
    the other numbers that its adapter compares. `device_tolerance`: on a GPU, which adds in another order.
    """

    scores: tuple[float, ...]
    tolerance: float
    device_tolerance: float


@dataclass(frozen=True, kw_only=True, slots=True)
class Manifest:
    """What manifest.toml says."""

    name: str
    version: str
    title: str
    manufacturer: str
    intended_use: str
    limits: tuple[str, ...]
    is_cleared: bool
    why_not: str  # what is known of weights for a slot that has none yet, and the way to some
    accepts: Accepts
    adapter_name: str
    adapter: Adapter
    preprocessing: Preprocessing
    weights: Weights
    golden: Golden
    labels: tuple[Label, ...]
    measures: tuple[Measure, ...]
    reference: Reference | None  # None: later images are held against the first ones that it sees


@dataclass(frozen=True, kw_only=True, slots=True)
class Package:
    """A manifest and the folder that it lies in."""

    folder: Path
    manifest: Manifest
    manifest_sha256: str

    @property
    def name(self) -> str:
        return self.manifest.name

    @property
    def weights_path(self) -> Path:
        return self.folder / self.manifest.weights.file

    @property
    def for_device(self) -> "Package":
        """As a GPU serves it: with the file and the tolerance of its own, where the manifest names them."""
        weights, golden = self.manifest.weights, self.manifest.golden
        if weights.device_sha256:
            weights = replace(
                weights,
                file=weights.device_file,
                size_bytes=weights.device_size_bytes,
                sha256=weights.device_sha256,
            )
        golden = replace(golden, tolerance=golden.device_tolerance)
        return replace(self, manifest=replace(self.manifest, weights=weights, golden=golden))

    @property
    def why_not(self) -> str:
        """Why the package is not configured, in a sentence or two with the way out; empty when it is configured."""
        weights = self.manifest.weights
        if weights.sha256 and self.weights_path.is_file():
            return ""
        if weights.source_url:
            return f"Its weights are not installed yet: run `collimator models pull {self.name}`."
        if weights.sha256:
            return f"Its weights are missing: {self.weights_path}."
        return self.manifest.why_not or NO_WEIGHTS_KNOWN

    @property
    def is_configured(self) -> bool:
        return not self.why_not

    @property
    def device_uid(self) -> str:
        """A UID from a UUID-sized number (PS3.5 B.2) that changes with the manifest or the weights."""
        seed = f"{self.manifest_sha256} {self.manifest.weights.sha256}"
        return f"2.25.{int.from_bytes(hashlib.sha256(seed.encode()).digest()[:16], 'big')}"

    def identity(self, *, is_demonstration: bool) -> ModelIdentity:
        """The model as result objects name it."""
        limits = self.manifest.limits
        if is_demonstration:
            limits = (*limits, "DEMONSTRATION: it ran outside its intended population; its answer means nothing.")
        return ModelIdentity(
            package=self.name,
            title=self.manifest.title,
            version=self.manifest.version,
            manufacturer=self.manifest.manufacturer,
            device_uid=self.device_uid,
            weights_sha256=self.manifest.weights.sha256,
            intended_use=self.manifest.intended_use,
            limits=limits,
            is_cleared=self.manifest.is_cleared,
            is_demonstration=is_demonstration,
        )


def load(folder: Path) -> Package:
    """Read a package's manifest. The weights are not read.

    Raises:
        Misconfigured: the manifest is missing or wrong; the message names the file, the key and what was expected.
    """
    path = folder / MANIFEST_FILE
    try:
        with _open_file(path) as file:
            content = file.read(MAX_MANIFEST_BYTES + 1)
    except OSError as error:
        raise Misconfigured(
            f"{path}: cannot be read ({error.strerror})", hint="A package is a folder with it."
        ) from error
    if len(content) > MAX_MANIFEST_BYTES:
        raise Misconfigured(f"{path}: too large; a manifest has at most {MAX_MANIFEST_BYTES} bytes")
    return Package(
        folder=folder, manifest=_manifest_in(path, content), manifest_sha256=hashlib.sha256(content).hexdigest()
    )


def verified_bytes(path: Path, weights: Weights) -> bytes:
    """The file's bytes, once their size and SHA-256 are the manifest's. A file of another size is not read.

    Raises:
        Misconfigured: the file cannot be read, or is another one.
    """
    try:
        with _open_file(path) as file:
            size = os.fstat(file.fileno()).st_size
            content = file.read(size) if size == weights.size_bytes else b""
    except OSError as error:
        raise Misconfigured(f"{path}: cannot be read ({error.strerror})") from error
    found = hashlib.sha256(content).hexdigest()
    if size != weights.size_bytes:
        raise Misconfigured(f"{path}: {size} bytes; the manifest says {weights.size_bytes}", hint=OTHER_FILE)
    if found != weights.sha256:
        raise Misconfigured(f"{path}: SHA-256 {found}; the manifest says {weights.sha256}", hint=OTHER_FILE)
    return content


@contextmanager
def _open_file(path: Path) -> Iterator[BinaryIO]:
    """For reading. A pipe would be waited for without end.

    Raises:
        Misconfigured: it is no file.
        OSError
    """
    with open(path, "rb", opener=lambda name, flags: os.open(name, flags | os.O_NONBLOCK)) as file:
        if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
            raise Misconfigured(f"{path}: is no file")
        yield file


@lru_cache(maxsize=MANIFESTS_KEPT)  # it is asked for at every step of every study, and takes some milliseconds
def _manifest_in(path: Path, content: bytes) -> Manifest:
    try:
        document = tomllib.loads(content.decode("utf-8"))
    except ValueError as error:  # also of a number with more digits than Python reads
        raise Misconfigured(f"{path}: not valid TOML: {error}") from error
    except RecursionError as error:
        raise Misconfigured(f"{path}: its lists lie too deep in each other") from error
    return _manifest(Table(path=path, name="", values=document))


def _manifest(table: Table) -> Manifest:
    name = table.text("name")
    table.require(NAME_PATTERN.fullmatch(name), "name", "small letters, digits and _, starting with a letter")
    labels = tuple(_label(entry) for entry in table.tables("labels", default=()))
    measures = tuple(_measure(entry) for entry in table.tables("measures", default=()))
    distinct = {name.casefold() for name in (*(one.label for one in labels), *(one.label for one in measures))}
    table.require(len(distinct) == len(labels) + len(measures), "labels", "every label once")
    codes = [*(_coded(one.code, one.site) for one in labels), *(_coded(one.code, one.site) for one in measures)]
    table.require(len(set(codes)) == len(codes), "labels", "a code of its own, or a site, for each label")
    adapter_name = table.one_of("adapter", tuple(READERS), default="classifier")
    adapter = READERS[adapter_name](table)
    expected = adapter.expected(labels, measures)
    table.require(not expected, "labels", expected)
    manifest = Manifest(
        name=name,
        version=table.text("version"),
        title=_long_string(table, "title"),
        manufacturer=_long_string(table, "manufacturer"),
        intended_use=table.text("intended_use"),
        limits=table.texts("limits"),
        is_cleared=table.flag("is_cleared", default=False),
        why_not=table.text("why_not", may_be_empty=True, default=""),
        accepts=_accepts(table.table("accepts")),
        adapter_name=adapter_name,
        adapter=adapter,
        preprocessing=_preprocessing(table.table("preprocessing")),
        weights=_weights(table.table("weights")),
        golden=_golden(table.table("golden")),
        labels=labels,
        measures=measures,
        reference=read_reference(table.table("reference"), labels, measures) if table.has("reference") else None,
    )
    table.finish()
    return manifest


def _accepts(table: Table) -> Accepts:
    accepts = Accepts(
        modalities=_code_strings(table, "modalities"),
        sop_classes=table.texts("sop_classes", default=()),
        body_parts=_code_strings(table, "body_parts"),
        views=_code_strings(table, "views", default=()),
        age_min_years=table.optional_integer("age_min_years", low=0, high=150),
        age_max_years=table.optional_integer("age_max_years", low=0, high=150),
        accepts_unknown_age=table.flag("accepts_unknown_age"),
    )
    are_uids = all(UID_PATTERN.fullmatch(uid) for uid in accepts.sop_classes)
    table.require(are_uids, "sop_classes", "SOP Class UIDs, such as 1.2.840.10008.5.1.4.1.1.1.1")
    # What accepts any modality or body part says no intended use; any view does: an absent one is accepted anyway.
    for key, allowed in (("modalities", accepts.modalities), ("body_parts", accepts.body_parts)):
        table.require(allowed, key, "at least one")
    youngest, oldest = accepts.age_min_years or 0, accepts.age_max_years
    table.require(oldest is None or youngest <= oldest, "age_max_years", f"{youngest} or more")
    table.finish()
    return accepts


def _code_strings(table: Table, key: str, *, default: tuple[str, ...] | None = None) -> tuple[str, ...]:
    """Values as they stand in an image's header, where they are CS (PS3.5 6.2): capitals."""
    texts = table.texts(key) if default is None else table.texts(key, default=default)
    are_codes = all(CODE_STRING_PATTERN.fullmatch(text) for text in texts)
    table.require(are_codes, key, "capitals, digits, _ and blanks between them, at most 16")
    return texts


def _long_string(table: Table, key: str, *, most: int = 64) -> str:
    """A text that goes into result objects, as LO, or as SH where `most` is 16 (PS3.5 6.2)."""
    text = table.text(key)
    is_one = len(text) <= most and text.isprintable() and "\\" not in text
    table.require(is_one, key, f"at most {most} characters, without a backslash or a line break")
    return text


def _preprocessing(table: Table) -> Preprocessing:
    preprocessing = Preprocessing(
        input_size=table.integer("input_size", low=32, high=2048),
        crop=table.one_of("crop", get_args(Crop)),
        scaling=table.one_of("scaling", get_args(Scaling)),
        channels=table.integer("channels", low=1, high=3, default=1),
    )
    table.require(preprocessing.channels in (1, 3), "channels", "1 or 3")
    table.finish()
    return preprocessing


def _weights(table: Table) -> Weights:
    weights = Weights(
        file=table.text("file"),
        size_bytes=table.integer("size_bytes", low=0, high=4 << 30),
        sha256=table.sha256("sha256"),
        licence=_licence(table),
        attribution=table.text("attribution", may_be_empty=True, default=""),
        source_url=table.text("source_url", may_be_empty=True),
        source_sha256=table.sha256("source_sha256"),
        source_size_bytes=table.integer("source_size_bytes", low=0, high=4 << 30),
        converter=table.text("converter", may_be_empty=True),
        device_file=table.text("device_file", may_be_empty=True, default=""),
        device_size_bytes=table.integer("device_size_bytes", low=0, high=4 << 30, default=0),
        device_sha256=table.sha256("device_sha256", default=""),
    )
    table.require(FILE_PATTERN.fullmatch(weights.file), "file", "a file name that ends in .onnx or .safetensors")
    is_known_format = not weights.device_file or FILE_PATTERN.fullmatch(weights.device_file)
    is_another = weights.device_file != weights.file
    table.require(is_known_format and is_another, "device_file", "another name that ends in .onnx or .safetensors")
    is_named = bool(weights.device_file) or not weights.device_sha256
    table.require(is_named, "device_file", "the name of the file that device_sha256 is of")
    has_known_source = not weights.source_url or (weights.source_sha256 and weights.source_size_bytes)
    table.require(has_known_source, "source_sha256", "SHA-256 and size of what source_url gives")
    table.require(not weights.source_url or weights.licence.name, "licence", "the licence of what source_url gives")
    is_safe = not weights.source_url or weights.source_url.startswith("https://")
    table.require(is_safe, "source_url", "an https:// address")
    table.finish()
    return weights


def _licence(table: Table) -> Licence:
    name = table.text("licence", may_be_empty=True)
    url = table.text("licence_url", may_be_empty=True, default="")
    table.require(not url or url.startswith("https://"), "licence_url", "an https:// address")
    return licence_of(name.strip(), url)


def _golden(table: Table) -> Golden:
    tolerance = table.number("tolerance", low=1e-7, high=0.05)
    on_device = table.optional_number("device_tolerance", low=1e-7, high=0.05)
    golden = Golden(
        scores=table.numbers("scores"),
        tolerance=tolerance,
        device_tolerance=tolerance if on_device is None else on_device,
    )
    table.finish()
    return golden


def _label(table: Table) -> Label:
    label = Label(
        label=_long_string(table, "label"),
        code=_code(table.table("code")),
        site=_code(table.table("site")) if table.has("site") else None,
        threshold=table.number("threshold", low=0.0, high=1.0),
        sensitivity=table.optional_number("sensitivity", low=0.0, high=1.0),
        specificity=table.optional_number("specificity", low=0.0, high=1.0),
    )
    table.finish()
    return label


def _measure(table: Table) -> Measure:
    measure = Measure(
        label=_long_string(table, "label"),
        code=_code(table.table("code")),
        site=_code(table.table("site")) if table.has("site") else None,
        unit=_code(table.table("unit")),
        threshold=table.optional_number("threshold", low=0.0, high=1e6),
    )
    table.require(measure.unit.scheme == "UCUM", "unit.scheme", '"UCUM"')
    table.finish()
    return measure


def _code(table: Table) -> Code:
    # Code Value and Coding Scheme Designator are SH, Code Meaning is LO (PS3.6).
    code = Code(
        value=_long_string(table, "value", most=16),
        scheme=_long_string(table, "scheme", most=16),
        meaning=_long_string(table, "meaning"),
    )
    is_right = code.scheme != "SCT" or has_valid_check_digit(code.value)
    table.require(is_right, "value", "a SNOMED CT identifier whose check digit is right")
    table.finish()
    return code


def _coded(code: Code, site: Code | None) -> tuple[str, ...]:
    """What a result object says of a label: its meaning may be worded in another way (PS3.3 8.8)."""
    return code.value, code.scheme, *((site.value, site.scheme) if site else ())


def rewritten(manifest_text: str, values: dict[str, str]) -> str:
    """The manifest with the lines `key = …` replaced, each key standing in it exactly once.

    Args:
        values: TOML text by key, such as `{"sha256": '"abc…"', "size_bytes": "123"}`.

    Raises:
        Misconfigured: a key does not stand in the text exactly once.
    """
    for key, value in values.items():
        pattern = re.compile(rf"^{re.escape(key)} = .*$", re.MULTILINE)
        if len(pattern.findall(manifest_text)) != 1:
            raise Misconfigured(f"{MANIFEST_FILE}: expected exactly one line `{key} = …` to write to")
        manifest_text = pattern.sub(lambda _, line=f"{key} = {value}": line, manifest_text)  # type: ignore[misc]
    return manifest_text
