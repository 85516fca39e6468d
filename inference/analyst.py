"""The door to this room: analyses images and shows them, without decoding or inferring here.

    analyse -> gates, by the manifest (here) -> decode, infer (a child) ───────────────────────────────> findings (here)
                                             -> decode, prepare (a child) -> infer (a device) -> answer (here) ──^

The caller's process imports neither codecs nor a runtime. Without devices one limited child does all the work, as
children.py tells; with devices several decode, and each device infers for all studies together, as gpu/ tells. What no
device can serve, a child serves.
"""

import time
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from math import prod
from pathlib import Path
from typing import Any

import structlog

from domain.errors import Misconfigured, Refuse
from domain.findings import INSTEAD_OF, Analysis, DisplayImage, ImageAnalysis, ImageRun, LeftOut
from domain.routing import RuleBook, why_refused
from domain.states import Reason
from domain.study import Instance
from inference.analysis import image_analysis
from inference.answer import Answer
from inference.children import LEAST_NICENESS, NICENESS, TRAYS, Children, LendFile, lend_plain_file
from inference.gates import accepts
from inference.gpu.batches import Turn
from inference.gpu.devices import Devices, NoDevice
from inference.package import Package
from inference.preprocess import seen_box
from inference.registry import Registry

log = structlog.get_logger()

FLOAT32_BYTES = 4
SHADOW_TRAYS = 1 << 16  # from here on the trays of a shadow's analyst are counted; no other has so many
CPU = "cpu"
Answered = tuple[Answer, str, ImageRun]  # what was said of an image, by which device, and how it went


class Analyst:
    """Safe to call from several threads; requests take turns.

    Args:
        installed_dir: where pulled and added packages lie.
        memory_limit_bytes: address space of a child. A 20-megapixel image needs about 1 GiB.
        time_limit_s: for one image, from request to answer.
        rulebook: what terms and codes of body parts mean, for the gate.
        lend_file: opens an instance's file.
        processes: children that work at the same time; more than one is of use only to devices.
        devices: what infers; None: the children do.
        pinned: (package, version) of those that stay loaded on the devices; version "": the one that the name means.
        is_shadow: it only watches: its child stands back behind those of all other analysts, its images wait behind
            theirs for a device, and its networks take room there that is free. The devices are the other analyst's.
    """

    def __init__(
        self,
        *,
        installed_dir: Path,
        memory_limit_bytes: int,
        time_limit_s: float,
        rulebook: RuleBook,
        lend_file: LendFile = lend_plain_file,
        processes: int = 1,
        devices: Devices | None = None,
        pinned: Sequence[tuple[str, str]] = (),
        is_shadow: bool = False,
    ) -> None:
        self._registry = Registry(installed_dir)
        self._rulebook = rulebook
        self._children = Children(
            processes=processes,
            memory_limit_bytes=memory_limit_bytes,
            time_limit_s=time_limit_s,
            lend_file=lend_file,
            niceness=LEAST_NICENESS if is_shadow else NICENESS,
            first_tray=SHADOW_TRAYS if is_shadow else 0,
        )
        self._is_shadow = is_shadow
        self._devices = devices
        self._pinned = tuple(pinned)
        # The images of a study go side by side only where several can be under way.
        at_once = processes * TRAYS
        self._side_by_side = ThreadPoolExecutor(at_once, "image") if devices else None
        self._urgent_side_by_side = ThreadPoolExecutor(at_once, "urgent image") if devices else None

    def warm_up(self) -> None:
        """Start the devices, and have them load what is pinned; without it, the first image waits for that."""
        if self._devices is None:
            return
        packages = []
        for name, version in self._pinned:
            try:
                packages.append(self._registry.get(name, version))
            except Misconfigured as error:
                log.error("package_not_pinned", package=name, reason=error.message)
        self._devices.start([package for package in packages if package.is_configured])

    def analyse(
        self,
        package_name: str,
        instances: Sequence[Instance],
        *,
        version: str = "",
        is_demonstration: bool = False,
        is_urgent: bool = False,
    ) -> Analysis:
        """Run one package on those of the images that pass its gates.

        Args:
            version: "": the one that the name alone means.
            is_demonstration: skip the age gate, and say so in the result.
            is_urgent: before all others that wait for a child or a device.

        Raises:
            Refuse: no image passes the gates (outside_population), or none can be decoded (the first one's reason).
            Misconfigured: the package is unknown, not configured, or not what its manifest says.
            Retry: the child died or took too long; whether the image is to blame shows when it does so again.
        """
        package = self._registry.get(package_name, version)
        if not package.is_configured:
            raise Misconfigured(f"{package_name} is not configured", hint=package.why_not)
        accepted, left_out = _accepted(package, instances, self._rulebook, is_demonstration=is_demonstration)
        images: list[ImageAnalysis] = []
        refusals: list[Refuse] = []
        turn = Turn.SHADOW if self._is_shadow else Turn.STAT if is_urgent else Turn.ORDINARY
        for instance, answered in zip(accepted, self._answers(package, accepted, turn), strict=True):
            if isinstance(answered, Refuse):
                refusals.append(answered)
                left_out.append(LeftOut(sop_instance_uid=instance.sop_instance_uid, why=answered.message))
            else:
                answer, device, run = answered
                images.append(
                    image_analysis(package.manifest, instance.sop_instance_uid, answer, device=device, run=run)
                )
        if not images:
            raise refusals[0]
        model = package.identity(is_demonstration=is_demonstration)
        return Analysis(model=model, images=tuple(images), left_out=tuple(left_out))

    def display(
        self, path: str, *, within: Sequence[tuple[int, int]] = ((1536, 1536),), is_urgent: bool = False
    ) -> DisplayImage:
        """The image as a viewer would show it, as large as fits into one of the (width, height) in pixels.

        Raises:
            Refuse: it cannot be decoded.
            Retry: the child died or took too long.
        """
        request = {"task": "display", "within": within}
        reply, pixels = self._children.ask(request, path, has_attachment=True, is_urgent=is_urgent)
        return DisplayImage(pixels=pixels, **{key: int(value) for key, value in reply.items()})

    def close(self) -> None:
        """End all processes. The analyst may be used again: it starts others."""
        if self._devices is not None and not self._is_shadow:
            self._devices.close()
        self._children.close()

    def _answers(self, package: Package, instances: Sequence[Instance], turn: Turn) -> Iterable[Answered | Refuse]:
        """For each image, in their order: what was said and by which device, or why nothing."""
        side_by_side = self._urgent_side_by_side if turn is Turn.STAT else self._side_by_side
        if side_by_side is None:
            return (self._answer(package, instance.path, turn) for instance in instances)
        return side_by_side.map(lambda one: self._answer(package, one.path, turn), instances)

    def _answer(self, package: Package, path: str, turn: Turn) -> Answered | Refuse:
        try:
            if self._devices is not None and self._devices.serves(package, turn):
                try:
                    return self._answer_of_device(self._devices, package, path, turn)
                except NoDevice as error:
                    log.warning("inferred_on_cpu", package=package.name, reason=str(error))
            device = CPU if self._devices is None else f"{CPU}{INSTEAD_OF}{self._devices.names}"
            return self._answer_of_child(package, path, turn, device)
        except Refuse as refusal:
            return refusal

    def _answer_of_child(self, package: Package, path: str, turn: Turn, device: str) -> Answered:
        request = {"task": "analyse", "folder": str(package.folder), "device_uid": package.device_uid}
        reply = self._children.ask(request, path, is_urgent=turn is Turn.STAT)[0]
        return Answer.from_json(reply), device, _run(package, device, reply)

    def _answer_of_device(self, devices: Devices, package: Package, path: str, turn: Turn) -> Answered:
        manifest = package.manifest
        request = {"task": "prepare", "folder": str(package.folder), "device_uid": package.device_uid}
        size_bytes = FLOAT32_BYTES * prod(manifest.preprocessing.input_shape)
        prepared = self._children.prepared(request, path, size_bytes=size_bytes, is_urgent=turn is Turn.STAT)
        with prepared as (reply, tray):
            began_at = time.monotonic()
            served = devices.ask(package, tray, turn=turn)
            reply["infer_s"] = time.monotonic() - began_at
        try:
            answer = manifest.adapter.answer(
                manifest.labels,
                manifest.measures,
                served.outputs,
                seen=seen_box(int(reply["rows"]), int(reply["columns"]), manifest.preprocessing.crop),
                pixel_aspect=float(reply["pixel_aspect"]),
            )
        except ValueError as error:
            raise Misconfigured(f"{package.name}: {error}") from error
        return answer, served.device, _run(package, served.device, reply)


def _accepted(
    package: Package, instances: Sequence[Instance], rulebook: RuleBook, *, is_demonstration: bool
) -> tuple[list[Instance], list[LeftOut]]:
    """The instances that pass the gates, in their order; and why the others do not."""
    accepted: list[Instance] = []
    left_out: list[LeftOut] = []
    for instance in instances:
        clauses = accepts(
            package.manifest,
            instance.facts,
            sop_class_uid=instance.sop_class_uid,
            rulebook=rulebook,
            is_demonstration=is_demonstration,
        )
        if why := why_refused(clauses):
            left_out.append(LeftOut(sop_instance_uid=instance.sop_instance_uid, why=why))
        else:
            accepted.append(instance)
    if not accepted:
        reasons = "; ".join(dict.fromkeys(one.why for one in left_out)) or "the study has none"
        raise Refuse(f"{package.name} accepts none of the images: {reasons}", reason=Reason.OUTSIDE_POPULATION)
    return accepted, left_out


def _run(package: Package, device: str, reply: Mapping[str, Any]) -> ImageRun:
    run = ImageRun(**{name: round(float(reply[name]), 4) for name in ("decode_s", "infer_s", "grey_mean")})
    log.info("image_analysed", package=package.name, device=device, decode_s=run.decode_s, infer_s=run.infer_s)
    return run
