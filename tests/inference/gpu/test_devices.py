"""From file to analysis with devices: real owner processes, on the device "cpu", that are killed and replaced."""

import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import replace
from multiprocessing import Pipe
from pathlib import Path
from subprocess import Popen
from threading import Event
from typing import Any

import numpy as np
import pytest
from structlog.testing import capture_logs

from domain.errors import Refuse, Retry
from domain.routing import NO_RULEBOOK
from inference.analyst import Analyst
from inference.gpu.batches import Turn
from inference.gpu.devices import REST_S, Devices, Late, NoDevice, NoRoomToWatch, Outputs, OwnerDied, OwnerProcess
from inference.gpu.options import OwnerOptions
from inference.gpu.trays import Tray
from inference.package import load
from tests.factories.packages import build_package
from tests.factories.torch_networks import torch_filter
from tests.inference.images import instance, write_image
from tests.inference.processes import is_running, running_children, within

ROOT = Path(__file__).parent.parent.parent.parent
OPTIONS = OwnerOptions(device="", largest_batch=4, batch_wait_s=0.005, memory_mb=0)


class Clock:
    def __init__(self) -> None:
        self.now_s = 100.0

    def __call__(self) -> float:
        return self.now_s


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def image(tmp_path: Path) -> Path:
    return write_image(tmp_path / "image.dcm")


class House:
    """Makes analysts with devices and without, and closes them."""

    def __init__(self, installed_dir: Path, clock: Clock) -> None:
        self.installed_dir = installed_dir
        self.devices: Devices
        self._clock = clock
        self._analysts: list[Analyst] = []

    def analyst(
        self,
        *names: str,
        processes: int = 2,
        pinned: tuple[tuple[str, str], ...] = (),
        options: OwnerOptions = OPTIONS,
        start_owner: Callable[[OwnerOptions], OwnerProcess] = OwnerProcess,
    ) -> Analyst:
        self.devices = Devices(
            names,
            options=options,
            pinned=frozenset(name for name, _ in pinned),
            time_limit_s=60.0,
            clock=self._clock,
            start_owner=start_owner,
        )
        analyst = Analyst(
            installed_dir=self.installed_dir,
            memory_limit_bytes=8 << 30,
            time_limit_s=60.0,
            rulebook=NO_RULEBOOK,
            processes=processes,
            devices=self.devices if names else None,
            pinned=pinned,
        )
        self._analysts.append(analyst)
        return analyst

    def shadow(self) -> Analyst:
        """An analyst of versions that only watch, on the devices of the one before."""
        shadow = Analyst(
            installed_dir=self.installed_dir,
            memory_limit_bytes=8 << 30,
            time_limit_s=60.0,
            rulebook=NO_RULEBOOK,
            devices=self.devices,
            is_shadow=True,
        )
        self._analysts.append(shadow)
        return shadow

    def close(self) -> None:
        for analyst in self._analysts:
            analyst.close()

    def kill_the_owner_at_work(self) -> None:
        """Once an image waits for it."""
        assert within(60, lambda: self.devices.in_flight > 0 and len(owners()) == 1)
        os.kill(owners()[0], signal.SIGKILL)


@pytest.fixture
def house(installed_dir: Path, clock: Clock) -> Iterator[House]:
    made = House(installed_dir, clock)
    yield made
    made.close()


def stopped(options: OwnerOptions) -> OwnerProcess:
    """An owner that has started and answers nothing."""
    owner = OwnerProcess(options)
    os.kill(owner.process_id, signal.SIGSTOP)
    return owner


AT_WORK_ELSEWHERE = """
import json, sys, time
from multiprocessing.connection import Connection

parent = Connection(int(sys.argv[1]))
parent.send_bytes(b'{"ready": "stand-in"}')
ticket = json.loads(parent.recv_bytes())["ticket"]
for number in (1, 2, 3, 4):
    time.sleep(0.4)
    parent.send_bytes(json.dumps({"event": "batch_halved", "count": number}).encode())
parent.send_bytes(json.dumps({"done": [ticket], "outputs": []}).encode())
time.sleep(60)
"""


def at_work_elsewhere(command: list[str], **options: Any) -> "subprocess.Popen[bytes]":
    """In the place of an owner: it comes to the first image after longer than a second, and never to the next."""
    return Popen([sys.executable, "-c", AT_WORK_ELSEWHERE, command[-2]], **options)


class Saying(OwnerProcess):
    """An owner without a process, that answers or raises what it is told to, one after the other."""

    def __init__(self, *says: Outputs | Exception) -> None:
        self.title = "stand-in"
        self.asked: list[Turn] = []
        self.ends: list[str] = []
        self._says = iter(says)
        self._waiting = {}

    def ask(self, request: Mapping[str, Any], time_limit_s: float, tray: Tray | None = None) -> Outputs:
        self.asked.append(request["turn"])
        said = next(self._says)
        if isinstance(said, Exception):
            raise said
        return said

    def end(self, why: str) -> None:
        self.ends.append(why)


def owners() -> list[int]:
    return running_children("inference.gpu.owner")


def certainties(analyst: Analyst, *paths: Path, package: str = "chest") -> list[tuple[str, list[float]]]:
    """For each image, the device and what it said."""
    analysis = analyst.analyse(package, [instance(path) for path in paths])
    return [(one.device, [finding.certainty for finding in one.findings]) for one in analysis.images]


@pytest.mark.parametrize("network", ["onnx", "torch"])
def test_a_device_answers_as_the_child_does_and_the_analysis_says_which_it_was(
    house: House, image: Path, network: str
) -> None:
    build_package(house.installed_dir / "chest", torch_network=torch_filter() if network == "torch" else b"")
    (alone,) = house.analyst().analyse("chest", [instance(image)]).images
    (served,) = house.analyst("cpu").analyse("chest", [instance(image)]).images
    assert served.device == "cpu"
    for one, other in zip(alone.findings, served.findings, strict=True):
        assert (one.label, one.code) == (other.label, other.code)
        assert one.certainty == pytest.approx(other.certainty, abs=1e-6)
    assert alone.activation is not None
    assert served.activation is not None
    assert (alone.activation.left, alone.activation.width) == (served.activation.left, served.activation.width)
    assert np.abs(np.subtract(alone.activation.values, served.activation.values)).max() <= 1


def test_images_of_many_studies_get_their_own_answers(house: House, tmp_path: Path) -> None:
    paths = [
        write_image(tmp_path / f"{number}.dcm", PixelData=(pattern % (40 + 7 * number)).tobytes())
        for number in range(8)
        for pattern in (np.arange(64 * 56, dtype=np.uint16),)
    ]
    one_by_one = [values for _, values in certainties(house.analyst(), *paths)]
    analyst = house.analyst("cpu")
    with ThreadPoolExecutor(4) as pool:
        at_once = list(pool.map(lambda _: certainties(analyst, *paths), range(6)))
    for answers in at_once:
        assert np.allclose([values for _, values in answers], one_by_one, atol=1e-6)
    assert len({tuple(values) for values in one_by_one}) == 8
    assert len(owners()) == 1


def test_versions_side_by_side_answer_on_one_device_each_for_itself(house: House, image: Path) -> None:
    """What a canary asks for: a share of the studies by another version."""
    for version, labels in (("1.0.0", ("Pneumonia", "Effusion")), ("1.1.0", ("Effusion",))):
        build_package(house.installed_dir / "versions" / version, name="versions", version=version, labels=labels)
    analyst = house.analyst("cpu")
    with ThreadPoolExecutor(4) as pool:
        asked = ["1.0.0", "1.1.0"] * 4
        said = list(pool.map(lambda one: analyst.analyse("versions", [instance(image)], version=one), asked))
    for version, analysis in zip(asked, said, strict=True):
        assert analysis.model.version == version
        assert analysis.images[0].device == "cpu"
        assert len(analysis.images[0].findings) == (2 if version == "1.0.0" else 1)
    assert len(owners()) == 1


def test_a_shadow_looks_on_the_same_device_beside_what_answers(house: House, image: Path, tmp_path: Path) -> None:
    other = write_image(tmp_path / "other.dcm", PixelData=np.arange(64 * 56, dtype=np.uint16)[::-1].tobytes())
    expected = {path: certainties(house.analyst(), path)[0][1] for path in (image, other)}
    analyst = house.analyst("cpu")
    shadow = house.shadow()
    asked = [(analyst, image), (shadow, other)] * 6
    with ThreadPoolExecutor(4) as pool:
        said = list(pool.map(lambda one: certainties(*one), asked))
    for (_, path), [(device, values)] in zip(asked, said, strict=True):
        assert device == "cpu"
        assert np.allclose(values, expected[path], atol=1e-6)
    assert len(owners()) == 1


def test_a_shadow_that_is_closed_leaves_the_devices_to_those_who_answer(house: House, image: Path) -> None:
    analyst = house.analyst("cpu")
    shadow = house.shadow()
    certainties(shadow, image)
    (owner,) = owners()
    shadow.close()
    certainties(analyst, image)
    assert owners() == [owner]


def test_a_package_without_a_device_that_serves_it_is_served_by_the_cpu_and_says_so(house: House, image: Path) -> None:
    expected = certainties(house.analyst(), image)[0][1]
    analyst = house.analyst("cuda:99")
    with capture_logs() as lines:
        assert certainties(analyst, image) == [("cpu instead of cuda:99", expected)]
    events = {line["event"]: line for line in lines}
    assert "cuda:99 cannot be used" in events["device_failed"]["reason"]
    assert events["image_analysed"]["device"] == "cpu instead of cuda:99"
    assert owners() == []


def test_a_device_that_failed_is_tried_again_after_its_rest(house: House, image: Path, clock: Clock) -> None:
    analyst = house.analyst("cuda:99")

    def failures() -> int:
        with capture_logs() as lines:
            certainties(analyst, image)
        return sum(line["event"] == "device_failed" for line in lines)

    assert (failures(), failures()) == (1, 0)
    clock.now_s += REST_S
    assert (failures(), failures()) == (1, 0)


def test_an_owner_that_dies_is_replaced_and_no_image_is_lost(house: House, image: Path) -> None:
    start_owner = iter([stopped, OwnerProcess])
    analyst = house.analyst("cpu", start_owner=lambda options: next(start_owner)(options))
    with ThreadPoolExecutor(1) as pool, capture_logs() as lines:
        asked = pool.submit(certainties, analyst, image, image, image)
        house.kill_the_owner_at_work()
        answers = asked.result()
    assert answers == [("cpu", certainties(house.analyst(), image)[0][1])] * 3
    assert [line["event"] for line in lines].count("device_owner_died") == 1


def test_an_owner_that_dies_twice_leaves_the_image_to_the_cpu_and_the_device_rests(
    house: House, image: Path, clock: Clock
) -> None:
    start_owner = iter([stopped, stopped, OwnerProcess])
    analyst = house.analyst("cpu", start_owner=lambda options: next(start_owner)(options))
    with ThreadPoolExecutor(1) as pool, capture_logs() as lines:
        asked = pool.submit(certainties, analyst, image)
        house.kill_the_owner_at_work()
        assert within(60, lambda: [line["event"] for line in lines].count("device_ready") == 2)
        house.kill_the_owner_at_work()
        assert [device for device, _ in asked.result()] == ["cpu instead of cpu"]
    assert {"inferred_on_cpu", "device_failed"} <= {line["event"] for line in lines}
    assert certainties(analyst, image)[0][0] == "cpu instead of cpu"
    assert owners() == []
    clock.now_s += REST_S
    assert certainties(analyst, image)[0][0] == "cpu"


def test_an_owner_that_hangs_is_ended_at_the_time_limit(house: House, image: Path) -> None:
    package = load(house.installed_dir / "chest")
    devices = Devices(["cpu"], options=OPTIONS, time_limit_s=0.2, start_owner=stopped)
    tray = Tray(0)
    tray.fit(32 * 32 * 4)
    with pytest.raises(NoDevice, match=r"nothing came from it for 0\.2 s"):
        devices.ask(package, tray, turn=Turn.ORDINARY)
    assert owners() == []
    tray.close()


def test_an_owner_that_answers_others_is_not_ended_however_long_an_image_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as patch:
        patch.setattr("inference.gpu.devices.subprocess.Popen", at_work_elsewhere)
        owner = OwnerProcess(replace(OPTIONS, device="cpu"))
    with capture_logs() as lines:
        assert owner.ask({"task": "infer"}, 1.0) == {}
    assert [line["count"] for line in lines if line["event"] == "batch_halved"] == [1, 2, 3, 4]
    with pytest.raises(OwnerDied, match="nothing came from it for 1 s"):
        owner.ask({"task": "infer"}, 1.0)
    owner.end("it was closed")


def test_an_image_that_the_device_did_not_come_to_in_time_is_the_cpus_and_the_owner_goes_on(house: House) -> None:
    owner = Saying(Late("others kept the device busy"), {})
    devices = Devices(["cpu"], options=OPTIONS, time_limit_s=60.0, start_owner=lambda options: owner)
    package = load(house.installed_dir / "chest")
    with pytest.raises(NoDevice, match="others kept the device busy"):
        devices.ask(package, Tray(0), turn=Turn.ORDINARY)
    assert devices.ask(package, Tray(0), turn=Turn.STAT).device == "cpu"
    assert owner.asked == [Turn.ORDINARY, Turn.STAT]
    assert owner.ends == []


def test_a_shadow_that_found_no_room_rests_and_who_answers_is_served(house: House, clock: Clock) -> None:
    owner = Saying(NoRoomToWatch("taken by other networks"), {}, {})
    devices = Devices(["cpu"], options=OPTIONS, time_limit_s=60.0, clock=clock, start_owner=lambda options: owner)
    package = load(house.installed_dir / "chest")
    for why in ("taken by other networks", "no device can serve it"):
        with pytest.raises(NoDevice, match=why):
            devices.ask(package, Tray(0), turn=Turn.SHADOW)
    assert owner.asked == [Turn.SHADOW]
    assert (devices.serves(package), devices.serves(package, Turn.SHADOW)) == (True, False)
    assert devices.ask(package, Tray(0), turn=Turn.ORDINARY).device == "cpu"
    clock.now_s += REST_S
    assert devices.ask(package, Tray(0), turn=Turn.SHADOW).device == "cpu"
    assert owner.asked == [Turn.SHADOW, Turn.ORDINARY, Turn.SHADOW]


def test_a_package_that_the_device_may_not_serve_is_served_by_the_cpu_and_others_by_the_device(
    house: House, image: Path
) -> None:
    build_package(house.installed_dir / "dental", name="dental", scaling="unit")
    folder = build_package(house.installed_dir / "spine", name="spine")
    text = (folder / "manifest.toml").read_text(encoding="utf-8")
    # What the CPU gives differs by a little more than a device is allowed to.
    scores = load(folder).manifest.golden.scores
    text = text.replace(f"[{scores[0]}", f"[{scores[0] + 0.00005}")
    text = text.replace("tolerance = 0.0001", "tolerance = 0.0001\ndevice_tolerance = 0.00001")
    (folder / "manifest.toml").write_text(text, encoding="utf-8")
    analyst = house.analyst("cpu")
    with capture_logs() as lines:
        seen = {name: certainties(analyst, image, package=name)[0][0] for name in ("chest", "spine", "dental")}
    assert seen == {"chest": "cpu", "spine": "cpu instead of cpu", "dental": "cpu"}
    (line,) = [line for line in lines if line["event"] == "package_not_on_device"]
    assert "what it gives for the golden radiograph differs" in line["reason"]


def test_an_image_that_cannot_be_decoded_is_refused_and_the_others_are_served(
    house: House, image: Path, tmp_path: Path
) -> None:
    broken = write_image(tmp_path / "broken.dcm", Rows=65)
    analyst = house.analyst("cpu")
    analysis = analyst.analyse("chest", [instance(broken), instance(image, sop_instance_uid="2.25.9")])
    assert [one.sop_instance_uid for one in analysis.images] == ["2.25.9"]
    assert [one.why.startswith("the pixels cannot be decoded") for one in analysis.left_out] == [True]
    with pytest.raises(Refuse, match="cannot be decoded"):
        analyst.analyse("chest", [instance(broken)])


def test_a_decoder_that_dies_asks_for_another_try_and_harms_no_owner(house: House, image: Path) -> None:
    analyst = house.analyst("cpu", processes=1)
    expected = certainties(analyst, image)
    (owner,) = owners()
    (decoder,) = running_children("inference.child")
    os.kill(decoder, signal.SIGSTOP)
    with ThreadPoolExecutor(1) as pool:
        asked = pool.submit(certainties, analyst, image)
        os.kill(decoder, signal.SIGKILL)
        with suppress(Retry):  # or it was dead before it was asked, and another one answers
            assert asked.result() == expected
    assert certainties(analyst, image) == expected
    assert owners() == [owner]


@pytest.mark.parametrize("devices", [("cpu",), ()], ids=["device", "child"])
def test_a_stat_image_is_decoded_before_all_that_wait_for_a_decoder(
    house: House, image: Path, devices: tuple[str, ...]
) -> None:
    analyst = house.analyst(*devices, processes=1)
    analyst.analyse("chest", [instance(image)])
    (decoder,) = running_children("inference.child")
    os.kill(decoder, signal.SIGSTOP)
    children, ended = analyst._children, list[str]()
    with ThreadPoolExecutor(8) as pool:
        for number in range(6):
            images = [instance(image, sop_instance_uid=f"2.25.{number}.{one}") for one in range(20)]
            pool.submit(analyst.analyse, "chest", images).add_done_callback(lambda _: ended.append("ordinary"))
        assert within(60, lambda: not children._free)
        stat = pool.submit(analyst.analyse, "chest", [instance(image)], is_urgent=True)
        stat.add_done_callback(lambda _: ended.append("stat"))
        assert within(60, lambda: children._urgent == 1)
        os.kill(decoder, signal.SIGCONT)
    assert ended == ["stat"] + ["ordinary"] * 6


def test_the_overlay_asks_the_decoder_that_has_the_image(house: House, image: Path, tmp_path: Path) -> None:
    other = write_image(tmp_path / "other.dcm")
    analyst = house.analyst("cpu", processes=2)
    certainties(analyst, image, other)
    assert analyst.display(str(image)) == house.analyst().display(str(image))


def test_a_pinned_package_is_loaded_before_the_first_image(house: House) -> None:
    analyst = house.analyst("cpu", pinned=(("chest", ""), ("no_such_package", "")))
    with capture_logs() as lines:
        analyst.warm_up()
        assert within(60, lambda: any(line["event"] == "network_loaded" for line in lines))
    (loaded,) = [line for line in lines if line["event"] == "network_loaded"]
    assert (loaded["package"], loaded["count"], loaded["device"]) == ("chest", 4, "cpu")
    (unknown,) = [line for line in lines if line["event"] == "package_not_pinned"]
    assert unknown["package"] == "no_such_package"


def test_of_a_pinned_package_the_versions_that_clinics_chose_are_loaded_and_answer_without_another_load(
    house: House, image: Path
) -> None:
    for version in ("1.0.0", "1.1.0", "2.0.0"):
        build_package(house.installed_dir / "versions" / version, name="versions", version=version)
    analyst = house.analyst("cpu", pinned=(("versions", "1.0.0"), ("versions", "1.1.0")))
    with capture_logs() as lines:
        analyst.warm_up()
        assert within(60, lambda: [line["event"] for line in lines].count("network_loaded") == 2)
        for version in ("1.0.0", "1.1.0"):
            analysis = analyst.analyse("versions", [instance(image)], version=version)
            assert (analysis.model.version, analysis.images[0].device) == (version, "cpu")
    assert [line["package"] for line in lines if line["event"] == "network_loaded"] == ["1.0.0", "1.1.0"]


def test_an_owner_that_is_busy_when_its_parent_dies_leaves_the_device_to_the_next_worker_at_once(
    house: House, image: Path, tmp_path: Path
) -> None:
    options = replace(OPTIONS, device="cpu", lock_dir=str(tmp_path / "node"))
    busy = "import time\nfrom inference.gpu import owner\nowner.serve = lambda *_: time.sleep(600)\nowner.main()"
    parent, theirs = Pipe()
    command = [sys.executable, "-c", busy, str(theirs.fileno()), options.as_json()]
    with subprocess.Popen(command, pass_fds=[theirs.fileno()], cwd=ROOT) as process:
        theirs.close()
        try:
            assert b"ready" in parent.recv_bytes()
            parent.close()
            assert process.wait(30) == 0
        finally:
            process.kill()
    assert certainties(house.analyst("cpu", options=options), image)[0][0] == "cpu"


def test_a_device_has_one_owner_on_a_machine(house: House, image: Path, tmp_path: Path) -> None:
    options = replace(OPTIONS, lock_dir=str(tmp_path / "node"))
    first = house.analyst("cpu", options=options)
    assert certainties(first, image)[0][0] == "cpu"
    with capture_logs() as lines:
        assert certainties(house.analyst("cpu", options=options), image)[0][0] == "cpu instead of cpu"
    (line,) = [line for line in lines if line["event"] == "device_failed"]
    assert line["reason"] == "another process of this machine owns cpu"


def test_a_node_without_torch_says_what_its_device_lacks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("inference.gpu.devices.find_spec", {}.get)
    with pytest.raises(NoDevice, match="torch, which is not installed"):
        OwnerProcess(replace(OPTIONS, device="cpu"))


def test_closing_leaves_no_process_and_the_analyst_can_be_used_again(house: House, image: Path) -> None:
    analyst = house.analyst("cpu")
    expected = certainties(analyst, image)
    analyst.close()
    assert owners() == running_children("inference.child") == []
    assert certainties(analyst, image) == expected


def test_closing_does_not_wait_for_an_owner_that_starts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("inference.gpu.devices.CLOSES_WITHIN_S", 0.1)
    starts, may_go_on = Event(), Event()

    def starting(options: OwnerOptions) -> OwnerProcess:
        starts.set()
        assert may_go_on.wait(60)
        raise OwnerDied("it did not start")

    devices = Devices(["cpu"], options=OPTIONS, time_limit_s=60.0, start_owner=starting)
    with ThreadPoolExecutor(1) as pool:
        report = pool.submit(devices.start, [])
        assert starts.wait(60)
        devices.close()
        assert not report.done()
        may_go_on.set()
        assert report.result(60)[0].why_not == "it did not start"


def test_a_package_that_is_installed_anew_is_used_at_once(house: House, image: Path) -> None:
    analyst = house.analyst("cpu")
    before = analyst.analyse("chest", [instance(image)])
    build_package(house.installed_dir / "chest", version="2.0.0", labels=("Nodule",))
    after = analyst.analyse("chest", [instance(image)])
    assert (before.model.version, after.model.version) == ("1.0.0", "2.0.0")
    assert [finding.label for finding in after.images[0].findings] == ["Nodule"]
    assert after.images[0].device == "cpu"


def test_the_owner_ends_with_its_parent(house: House, tmp_path: Path) -> None:
    program = (
        "import time\nfrom inference.gpu.devices import OwnerProcess\nfrom inference.gpu.options import OwnerOptions\n"
        "options = OwnerOptions(device='cpu', largest_batch=1, batch_wait_s=0.005, memory_mb=0)\n"
        "print(OwnerProcess(options).process_id, flush=True)\ntime.sleep(60)"
    )
    with subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE, cwd=ROOT) as parent:
        assert parent.stdout is not None
        owner = int(parent.stdout.readline())
        assert is_running(owner)
        parent.kill()
    assert within(30, lambda: not is_running(owner))
