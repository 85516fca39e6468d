"""What a model said about a study, in the standard's terms and free of any library's."""

from dataclasses import dataclass, field

from domain.versions import Role

INSTEAD_OF = " instead of "  # between the device that answered and those that should have


@dataclass(frozen=True, kw_only=True, slots=True)
class Code:
    """A coded concept (PS3.3 8.8): Code Value, Coding Scheme Designator, Code Meaning."""

    value: str
    scheme: str
    meaning: str


@dataclass(frozen=True, kw_only=True, slots=True)
class Finding:
    """One label's answer for one image.

    `certainty` is the model's own score in [0, 1]. It is not a probability of disease: it becomes
    Certainty of Finding (111012, DCM) in percent. `threshold` is the tested operating point on the same scale.
    """

    label: str
    code: Code
    site: Code | None
    certainty: float
    threshold: float

    @property
    def is_detected(self) -> bool:
        return self.certainty >= self.threshold


@dataclass(frozen=True, kw_only=True, slots=True)
class ActivationMap:
    """Class activation of one label (Zhou et al., CVPR 2016), after ReLU, scaled to its own maximum.

    `values` is row-major, `rows * columns` integers in [0, 255]. The map covers the rectangle
    (`left`, `top`, `width`, `height`) of the source image, in source pixels: a network that looked at a centred
    square saw nothing outside it.
    """

    label: str
    rows: int
    columns: int
    values: tuple[int, ...]
    left: float
    top: float
    width: float
    height: float


@dataclass(frozen=True, kw_only=True, slots=True)
class Region:
    """Where a detector found something: a rectangle in source pixels, which may reach over the image's edge.

    `certainty` as that of a Finding; the finding of the same label has that of its best region.
    """

    label: str
    certainty: float
    left: float
    top: float
    width: float
    height: float


@dataclass(frozen=True, kw_only=True, slots=True)
class Line:
    """From point to point, (x, y) in source pixels."""

    start: tuple[float, float]
    end: tuple[float, float]


@dataclass(frozen=True, kw_only=True, slots=True)
class Measurement:
    """A value that was measured in the image, in `unit` (UCUM), and the lines that it was measured between.

    `threshold`: from there on the value is a finding; None: it is told without a judgement.
    """

    label: str
    code: Code
    site: Code | None
    value: float
    unit: Code
    threshold: float | None
    lines: tuple[Line, ...]

    @property
    def is_detected(self) -> bool:
        return self.threshold is not None and self.value >= self.threshold


def told_apart(value: float, threshold: float, *, decimals: int) -> tuple[str, str]:
    """Both rounded alike, with at least so many decimals and as few as keep them on their right sides of each other.

    0.4996 against a threshold of 0.5 is not detected, and "0.50" would say the opposite.
    """
    for places in range(decimals, decimals + 6):
        if (round(value, places) >= round(threshold, places)) == (value >= threshold):
            return f"{value:.{places}f}", f"{threshold:.{places}f}"
    return repr(value), repr(threshold)


@dataclass(frozen=True, kw_only=True, slots=True)
class Score:
    """The number in an answer: a finding's certainty, or a measured value.

    `threshold`: from there on it is a finding; None: it never is one. `is_certainty`: it is in [0, 1].
    """

    label: str
    value: float
    threshold: float | None
    is_certainty: bool = True

    @property
    def is_detected(self) -> bool:
        return self.threshold is not None and self.value >= self.threshold


@dataclass(frozen=True, kw_only=True, slots=True)
class ImageRun:
    """How the analysis of one image went: nothing of it stands in a result.

    grey_mean: of the image as the network is given it, before it is standardised, [0, 1]; 1 is white.
    """

    decode_s: float
    infer_s: float
    grey_mean: float


@dataclass(frozen=True, kw_only=True, slots=True)
class ImageAnalysis:
    """All labels' answers for one image, the most certain first against its threshold; and what was measured.

    `device`: on which the network ran, "cpu" or "cuda:0"; "cpu instead of cuda:0" where the GPU could not.
    """

    sop_instance_uid: str
    findings: tuple[Finding, ...]
    activation: ActivationMap | None
    regions: tuple[Region, ...] = ()
    measurements: tuple[Measurement, ...] = ()
    device: str = "cpu"
    # It takes another time each time: two analyses are equal, and their results the same bytes, without it.
    run: ImageRun | None = field(default=None, repr=False, compare=False)

    @property
    def answers(self) -> "tuple[Measurement | Finding, ...]":
        """Everything that has a label and a code."""
        return (*self.measurements, *self.findings)

    @property
    def scores(self) -> tuple[Score, ...]:
        """The numbers in all answers, the findings first."""
        return tuple(
            Score(label=one.label, value=one.certainty, threshold=one.threshold) for one in self.findings
        ) + tuple(
            Score(label=one.label, value=one.value, threshold=one.threshold, is_certainty=False)
            for one in self.measurements
        )

    @property
    def detected(self) -> tuple[Finding, ...]:
        return tuple(finding for finding in self.findings if finding.is_detected)

    @property
    def not_detected(self) -> tuple[Finding, ...]:
        return tuple(finding for finding in self.findings if not finding.is_detected)


@dataclass(frozen=True, kw_only=True, slots=True)
class ModelIdentity:
    """Which model answered; goes into every result object.

    `device_uid` changes whenever the weights or the manifest change. `is_demonstration` marks a model that runs
    outside its intended population, which only `collimator demo` allows. `limits` are sentences for the reader.
    `role`: why this version of the package answered; what reports say of it stands among their reasons.
    """

    package: str
    title: str
    version: str
    manufacturer: str
    device_uid: str
    weights_sha256: str
    intended_use: str
    limits: tuple[str, ...]
    is_cleared: bool
    is_demonstration: bool
    role: Role = field(default=Role.ACTIVE, repr=False)


@dataclass(frozen=True, kw_only=True, slots=True)
class LeftOut:
    """An image that the model was to see and has not: a gate is shut to it, or nobody can decode it."""

    sop_instance_uid: str
    why: str


@dataclass(frozen=True, kw_only=True, slots=True)
class Analysis:
    """One model's answer for a study: one entry in `images` for each image that was analysed.

    unseen: images of the study that no model has looked at, of which none was for this one.
    """

    model: ModelIdentity
    images: tuple[ImageAnalysis, ...]
    left_out: tuple[LeftOut, ...] = ()
    unseen: tuple[LeftOut, ...] = ()


@dataclass(frozen=True, kw_only=True, slots=True)
class DisplayImage:
    """A source image as a viewer would show it: VOI applied, MONOCHROME1 inverted, pixels square.

    `pixels` is row-major 8-bit grey, `rows * columns` bytes, 255 white. `source_rows` and `source_columns` are the
    size of the image it was made from, so that source coordinates can be placed on it.
    """

    rows: int
    columns: int
    pixels: bytes
    source_rows: int
    source_columns: int
