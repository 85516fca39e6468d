"""The picture for every viewer: a Secondary Capture Image (1.2.840.10008.5.1.4.1.1.7) for each analysed image.

A study that was not analysed gets one with its note. RGB, 8 bits, one frame. It has no Pixel Spacing and no Frame of
Reference: film and legend share the page and both are resampled, so whatever a viewer would measure on it would be
wrong (PS3.3 C.7.6.2, C.7.4.1 are left out).
"""

from collections.abc import Iterable

import numpy as np
from highdicom.sc import SCImage
from numpy.typing import NDArray
from PIL import Image
from pydicom.dataset import Dataset
from pydicom.tag import Tag
from pydicom.uid import SecondaryCaptureImageStorage

from domain.findings import Code, DisplayImage, ImageAnalysis, ModelIdentity
from reports.codes import SOURCE_IMAGE, SPATIAL_RESAMPLING
from reports.draft import Draft
from reports.encoding import encode_element
from reports.image_names import image_in_words
from reports.material import Material
from reports.picture.page import draw_note, draw_page
from reports.provenance import Form, common_attributes, content_moment, model_of, stamp
from reports.source import SourceInstance, reference_header
from reports.sr.document import evidence
from reports.words import in_ascii, model_in_words, warnings_for
from reports.writer import Writer

KIND = "overlay"
SERIES_NUMBER = 9002
MOST_NAMED = 4  # of the images that nobody has looked at


# What the study decides: the picture, what it is of, and how that lies.
VARYING = frozenset(
    {
        "Rows",
        "Columns",
        "PixelData",
        "PatientOrientation",
        "SourceImageSequence",
        "LossyImageCompression",
        "LossyImageCompressionRatio",
        "LossyImageCompressionMethod",
    }
)
PIXEL_DATA = int(Tag("PixelData"))
NO_PICTURE = np.zeros((16, 16, 3), np.uint8)


def write(material: Material) -> Iterable[Draft]:
    """One object for each analysed image, all in one series; or one with the note."""
    request, words = material.request, material.words
    for number, image in enumerate(request.analysed_images, start=1):
        source = material.source_of(image)
        display, signature = _display_of(material, image), _signature(material, source)
        not_analysed = _not_analysed(material)
        page = draw_page(display, image, _model_of(material), signature, not_analysed=not_analysed, words=words)
        yield _overlay(material, source, page, number)
    if (note := request.note) is not None:
        page = draw_note(note.title, note.lines, _signature(material), words=words)
        yield _overlay(material, evidence(material)[0], page, 1)


def _overlay(material: Material, source: SourceInstance, page: Image.Image, number: int) -> Draft:
    title = "AI Note" if material.request.note is not None else "AI Overlay"
    form = Form(kind=KIND, series_number=SERIES_NUMBER, title=title, instance_number=number)
    content = page.tobytes()
    pixels = np.frombuffer(content, np.uint8).reshape(page.height, page.width, 3)
    varying = _what_varies(material, source, pixels)
    return Draft(
        material=material,
        form=form,
        about=source,
        direct=lambda: _build(material, form, source, pixels),
        build_head=_build_head,
        decided_by=(),
        varying=VARYING,
        written=varying,
        body=lambda encodings: {PIXEL_DATA: encode_element(PIXEL_DATA, b"OB", _padded(content))},
    )


def _signature(material: Material, image: SourceInstance | None = None) -> str:
    """Which image of the study a page is about, and who drew it."""
    node, source, words = material.request.node, material.source, material.words
    drawn_by = f"{node.model_name} {node.software_version}"
    if image is None:
        return drawn_by
    name = image_in_words(source, image, words)
    count = len(source.instances)
    return f"{words.image_of.format(image=name, count=count) if count > 1 else name} · {drawn_by}"


def _not_analysed(material: Material) -> str:
    """Which images nobody has looked at: the picture may be all that a destination gets."""
    analysis, words = material.request.analysis, material.words
    assert analysis is not None
    nobodys = {one.sop_instance_uid for one in (*analysis.left_out, *analysis.unseen)}
    of_nobody = [instance for instance in material.source.instances if instance.sop_instance_uid in nobodys]
    names = [image_in_words(material.source, instance, words) for instance in of_nobody[:MOST_NAMED]]
    more = [f"… ({len(of_nobody)})"] if len(of_nobody) > MOST_NAMED else []
    return words.not_analysed.format(images=", ".join([*names, *more])) if names else ""


def _model_of(material: Material) -> ModelIdentity:
    analysis = material.request.analysis
    assert analysis is not None
    return analysis.model


def _build_head(blank: Material, form: Form) -> Dataset:
    (source,) = blank.source.instances
    return _build(blank, form, source, NO_PICTURE)


def _build(material: Material, form: Form, source: SourceInstance, page: NDArray[np.uint8]) -> Dataset:
    overlay = SCImage.from_ref_dataset(
        ref_dataset=reference_header(material.source, source),
        pixel_array=page,
        photometric_interpretation="RGB",
        bits_allocated=8,
        coordinate_system="PATIENT",
        # highdicom asks for one; the source's own, or none, follows below.
        patient_orientation=source.patient_orientation or ("L", "F"),
        **common_attributes(material, form),
    )
    overlay["PixelData"].VR = "OB"
    # Type 2C (PS3.3 C.7.3.1): it belongs to the series, and one series holds the overlays of both sides.
    overlay.Laterality = ""
    _describe_capture(overlay, material)
    model = model_of(material)
    if model is None:
        _describe_note(overlay)
    else:
        _describe_derivation(overlay, model)
    overlay.update(_what_varies(material, source, page))
    return stamp(overlay, material)


def _what_varies(material: Material, source: SourceInstance, page: NDArray[np.uint8]) -> Dataset:
    """General Image and General Reference Modules, PS3.3 C.7.6.1 and C.12.4: the picture, and of which image."""
    varying = Dataset()
    varying.Rows, varying.Columns = page.shape[:2]
    varying.LossyImageCompression = "00"
    if model_of(material) is None:
        varying.PatientOrientation = []
        return varying
    varying.PatientOrientation = list(source.patient_orientation or ())
    reference = Dataset()
    reference.ReferencedSOPClassUID = source.sop_class_uid
    reference.ReferencedSOPInstanceUID = source.sop_instance_uid
    reference.SpatialLocationsPreserved = "NO"
    reference.PurposeOfReferenceCodeSequence = [_code_item(SOURCE_IMAGE)]
    varying.SourceImageSequence = [reference]
    for keyword, values in source.lossy_compression:
        setattr(varying, keyword, list(values) if len(values) > 1 else values[0])
    return varying


def _padded(content: bytes) -> bytes:
    return content + b"\0" * (len(content) % 2)


def _display_of(material: Material, image: ImageAnalysis) -> DisplayImage:
    if image.sop_instance_uid not in material.request.displays:
        raise ValueError(f"the request has no display of the analysed image {image.sop_instance_uid}")
    return material.request.displays[image.sop_instance_uid]


def _describe_capture(overlay: Dataset, material: Material) -> None:
    """SC Equipment and SC Image Modules, PS3.3 C.8.6.1 and C.8.6.2."""
    node = material.request.node
    moment = content_moment(material)
    overlay.ConversionType = "WSD"
    overlay.SecondaryCaptureDeviceManufacturer = node.manufacturer
    overlay.SecondaryCaptureDeviceManufacturerModelName = node.model_name
    overlay.SecondaryCaptureDeviceSoftwareVersions = node.software_version
    overlay.DateOfSecondaryCapture = moment.strftime("%Y%m%d")
    overlay.TimeOfSecondaryCapture = moment.strftime("%H%M%S")


def _describe_derivation(overlay: Dataset, model: ModelIdentity) -> None:
    """General Image Module, PS3.3 C.7.6.1: what was done."""
    warnings = " - ".join(warnings_for(model))
    overlay.ImageType = ["DERIVED", "SECONDARY", "OTHER"]
    overlay.BurnedInAnnotation = "YES"
    overlay.RecognizableVisualFeatures = "NO"
    overlay.ImageComments = f"AI output. {warnings}".strip()
    overlay.DerivationDescription = (
        f"Findings and activation map of {in_ascii(model_in_words(model))} drawn beside and on the image. {warnings}"
    ).strip()[:1024]
    overlay.DerivationCodeSequence = [_code_item(SPATIAL_RESAMPLING)]


def _describe_note(overlay: Dataset) -> None:
    """The same module: a page of text, for which no image was looked at."""
    overlay.ImageType = ["ORIGINAL", "SECONDARY", "OTHER"]
    overlay.BurnedInAnnotation = "YES"
    overlay.RecognizableVisualFeatures = "NO"
    overlay.ImageComments = "AI note: the study was not analysed."


def _code_item(code: Code) -> Dataset:
    """Code Sequence Macro, PS3.3 8.8."""
    item = Dataset()
    item.CodeValue = code.value
    item.CodingSchemeDesignator = code.scheme
    item.CodeMeaning = code.meaning
    return item


WRITER = Writer(kind=KIND, sop_class_uid=SecondaryCaptureImageStorage, series_number=SERIES_NUMBER, write=write)
