"""The door to the room: answers, refusals, and a child process that may die, hang or be attacked."""

import os
import signal
import struct
import subprocess
import sys
import textwrap
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from threading import Event
from unittest.mock import Mock

import numpy as np
import pytest
from pydicom.data import get_testdata_file
from structlog.testing import capture_logs

from domain.errors import Misconfigured, Refuse, Retry
from domain.findings import LeftOut
from inference import pixels
from inference.analyst import Analyst
from inference.child import Worker
from inference.children import _Child, _Place
from inference.package import load
from storage.instances import Spool
from storage.study_keys import MasterKey, StudyKeys
from tests.factories.networks import spacious
from tests.factories.packages import build_package, filter_network
from tests.inference.images import ADULT_PA, instance, write_image
from tests.inference.processes import children, is_running, running_children, within

ROOT = Path(__file__).parent.parent.parent
IMAGE_BYTES = 64 * 56 * 2  # of what write_image writes, decoded


@pytest.fixture
def image(tmp_path: Path) -> Path:
    return write_image(tmp_path / "image.dcm")


def analysis_process() -> int:
    """The one child of this process that analyses."""
    (found,) = running_children("inference.child")
    return found


def test_an_analysis_holds_every_label_with_its_code_and_threshold(analyst: Analyst, image: Path) -> None:
    analysis = analyst.analyse("chest", [instance(image, sop_instance_uid="2.25.77")])
    (answered,) = analysis.images
    assert answered.sop_instance_uid == "2.25.77"
    assert {(f.label, f.code.value, f.threshold) for f in answered.findings} == {
        ("Pneumonia", "233604007", 0.5),
        ("Effusion", "60046008", 0.5),
    }
    assert all(0 <= finding.certainty <= 1 for finding in answered.findings)
    assert analysis.model.package == "chest"
    assert not analysis.model.is_demonstration


def test_the_class_activation_covers_the_part_of_the_image_that_the_network_saw(
    analyst: Analyst, installed_dir: Path, image: Path
) -> None:
    build_package(installed_dir / "chest", crop="centre_square")
    activation = analyst.analyse("chest", [instance(image)]).images[0].activation
    assert activation is not None
    assert (activation.rows, activation.columns) == (8, 8)
    assert (activation.left, activation.top, activation.width, activation.height) == (0, 4, 56, 56)
    assert len(activation.values) == 64
    assert min(activation.values) >= 0
    assert max(activation.values) == 255
    assert activation.label == analyst.analyse("chest", [instance(image)]).images[0].findings[0].label


def test_the_same_image_gets_the_same_answer_from_another_process(
    new_analyst: Callable[..., Analyst], image: Path
) -> None:
    assert new_analyst().analyse("chest", [instance(image)]) == new_analyst().analyse("chest", [instance(image)])


def test_the_log_tells_how_long_decoding_and_inference_took(analyst: Analyst, image: Path) -> None:
    with capture_logs() as lines:
        analyst.analyse("chest", [instance(image)])
    (line,) = [line for line in lines if line["event"] == "image_analysed"]
    assert line["package"] == "chest"
    assert line["decode_s"] >= 0
    assert line["infer_s"] > 0


def test_a_real_chest_is_analysed_and_shown(analyst: Analyst) -> None:
    path = get_testdata_file("RG1_UNCR.dcm")
    assert isinstance(path, str)
    assert analyst.analyse("chest", [instance(Path(path))]).images[0].findings
    shown = analyst.display(path, within=[(512, 512)])
    assert (shown.rows, shown.columns, shown.source_rows, shown.source_columns) == (512, 482, 1955, 1841)
    assert len(shown.pixels) == 512 * 482


def test_an_image_that_is_encrypted_at_rest_is_analysed_and_shown_like_any_other(
    new_analyst: Callable[..., Analyst], image: Path, tmp_path: Path
) -> None:
    spool = Spool(tmp_path, keys=StudyKeys(tmp_path, [MasterKey(secret=b"m" * 32)]))
    file = spool.receive("st-mary/1.2.3")
    file.write(image.read_bytes())
    sealed = spool.path(file.commit())
    plain, sealing = new_analyst(), new_analyst(lend_file=spool.lend_at)
    assert sealing.analyse("chest", [instance(sealed)]) == plain.analyse("chest", [instance(image)])
    assert sealing.display(str(sealed)) == plain.display(str(image))


def test_an_image_that_was_damaged_at_rest_is_refused(new_analyst: Callable[..., Analyst], tmp_path: Path) -> None:
    spool = Spool(tmp_path, keys=StudyKeys(tmp_path, [MasterKey(secret=b"m" * 32)]))
    file = spool.receive("st-mary/1.2.3")
    file.write(b"content")
    sealed = spool.path(file.commit())
    sealed.write_bytes(sealed.read_bytes()[:-1] + b"?")
    analyst = new_analyst(lend_file=spool.lend_at)
    with pytest.raises(Refuse, match="the file cannot be read: the sealed file is damaged: block 0 is not what was"):
        analyst.display(str(sealed))


def test_a_file_that_is_gone_is_refused(analyst: Analyst, tmp_path: Path) -> None:
    with pytest.raises(Refuse, match="the file cannot be read: No such file or directory") as caught:
        analyst.display(str(tmp_path / "gone.dcm"))
    assert caught.value.reason == "unreadable_pixels"


def test_an_image_outside_the_population_is_refused_before_it_is_decoded(analyst: Analyst, tmp_path: Path) -> None:
    child = replace(ADULT_PA, patient_age_years=4.0)
    with pytest.raises(Refuse) as caught:
        analyst.analyse("chest", [instance(tmp_path / "never read.dcm", child)])
    assert caught.value.reason == "outside_population"
    assert caught.value.message == (
        "chest accepts none of the images: age 4 where 18 or more completed years is accepted"
    )


def test_a_demonstration_skips_the_age_gate_alone_and_says_so(analyst: Analyst, image: Path) -> None:
    child = replace(ADULT_PA, patient_age_years=4.0)
    assert analyst.analyse("chest", [instance(image, child)], is_demonstration=True).model.is_demonstration
    with pytest.raises(Refuse, match="modality CT where CR or DX is accepted"):
        analyst.analyse("chest", [instance(image, replace(child, modality="CT"))], is_demonstration=True)


def test_a_hip_is_not_analysed_by_a_model_for_wrists_although_both_are_bones(
    analyst: Analyst, installed_dir: Path, image: Path
) -> None:
    build_package(installed_dir / "bone_fracture", name="bone_fracture", body_parts=("WRIST", "HAND"))
    wrist, hip = (replace(ADULT_PA, body_part_examined=term) for term in ("WRIST", "HIP"))
    assert analyst.analyse("bone_fracture", [instance(image, wrist)]).images
    with pytest.raises(Refuse, match="body part HIP where WRIST or HAND, or unknown is accepted") as caught:
        analyst.analyse("bone_fracture", [instance(image, hip)])
    assert caught.value.reason == "outside_population"


def test_only_the_accepted_images_of_a_study_are_analysed(analyst: Analyst, image: Path) -> None:
    lateral = instance(image, replace(ADULT_PA, view_position="LL"), sop_instance_uid="2.25.8")
    analysis = analyst.analyse("chest", [lateral, instance(image, sop_instance_uid="2.25.9")])
    assert [answered.sop_instance_uid for answered in analysis.images] == ["2.25.9"]
    assert analysis.left_out == (
        LeftOut(sop_instance_uid="2.25.8", why="view LL where AP or PA, or absent is accepted"),
    )


def test_an_image_that_cannot_be_decoded_is_named_beside_the_others(
    analyst: Analyst, image: Path, tmp_path: Path
) -> None:
    broken = write_image(tmp_path / "broken.dcm", Rows=65)
    analysis = analyst.analyse("chest", [instance(broken), instance(image, sop_instance_uid="2.25.9")])
    assert [answered.sop_instance_uid for answered in analysis.images] == ["2.25.9"]
    (one,) = analysis.left_out
    assert one.sop_instance_uid == instance(broken).sop_instance_uid
    assert one.why.startswith("the pixels cannot be decoded")


def test_a_study_of_which_no_image_can_be_decoded_is_refused(analyst: Analyst, tmp_path: Path) -> None:
    broken = write_image(tmp_path / "broken.dcm", Rows=65)
    with pytest.raises(Refuse) as caught:
        analyst.analyse("chest", [instance(broken)])
    assert caught.value.reason == "unreadable_pixels"
    with pytest.raises(Refuse, match="cannot be decoded"):
        analyst.display(str(broken))


def test_a_package_without_weights_is_misconfigured(analyst: Analyst, image: Path) -> None:
    with pytest.raises(Misconfigured, match="spine is not configured") as caught:
        analyst.analyse("spine", [instance(image)])
    assert "collimator models add" in caught.value.hint


def test_changed_weights_never_answer(analyst: Analyst, installed_dir: Path, image: Path) -> None:
    weights = installed_dir / "chest" / "model.onnx"
    weights.write_bytes(weights.read_bytes()[:-1] + b"\0")
    with pytest.raises(Misconfigured, match="the manifest says"):
        analyst.analyse("chest", [instance(image)])


def test_a_network_that_answers_the_golden_radiograph_otherwise_never_answers(
    analyst: Analyst, installed_dir: Path, image: Path
) -> None:
    manifest = installed_dir / "chest" / "manifest.toml"
    text = manifest.read_text(encoding="utf-8")
    manifest.write_text(text.replace("scores = [0.", "scores = [0.0"), encoding="utf-8")
    with pytest.raises(Misconfigured, match="what it gives for the golden radiograph differs"):
        analyst.analyse("chest", [instance(image)])


def test_a_package_that_is_installed_anew_is_used_at_once(analyst: Analyst, installed_dir: Path, image: Path) -> None:
    before = analyst.analyse("chest", [instance(image)])
    build_package(installed_dir / "chest", version="2.0.0", labels=("Nodule",))
    after = analyst.analyse("chest", [instance(image)])
    assert (before.model.version, after.model.version) == ("1.0.0", "2.0.0")
    assert [finding.label for finding in after.images[0].findings] == ["Nodule"]


def test_a_package_that_is_installed_anew_amid_a_request_does_not_answer_it(installed_dir: Path, image: Path) -> None:
    asked_for = load(installed_dir / "chest")
    build_package(installed_dir / "chest", version="2.0.0")
    request = {
        "task": "analyse",
        "folder": str(asked_for.folder),
        "device_uid": asked_for.device_uid,
        "image": str(image),
    }
    assert Worker(kept_bytes=0).answer(request, -1) == (
        {"changed": "the package chest was installed anew a moment ago"},
        b"",
    )


@pytest.mark.parametrize(("kept_bytes", "decoded"), [(6 * IMAGE_BYTES, 6), (IMAGE_BYTES, 12)], ids=["six", "one"])
def test_images_of_studies_that_are_under_way_together_are_decoded_once_if_there_is_room(
    kept_bytes: int, decoded: int, image: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    counted = Mock(wraps=pixels.read)
    monkeypatch.setattr(pixels, "read", counted)
    worker = Worker(kept_bytes=kept_bytes)
    with image.open("rb") as file:
        for number in [*range(6), *range(6)]:
            request = {"task": "display", "within": [(32, 32)], "image": str(number)}
            assert worker.answer(request, file.fileno())[1]
    assert counted.call_count == decoded


def test_a_child_that_dies_is_replaced(analyst: Analyst, image: Path) -> None:
    expected = analyst.analyse("chest", [instance(image)])
    process_id = analysis_process()
    os.kill(process_id, signal.SIGKILL)
    os.waitid(os.P_PID, process_id, os.WEXITED | os.WNOWAIT)
    assert analyst.analyse("chest", [instance(image)]) == expected


def _place(analyst: Analyst) -> _Place:
    """Where its one child works."""
    (place,) = analyst._children._places
    return place


@pytest.fixture
def is_asked(monkeypatch: pytest.MonkeyPatch) -> Event:
    """Set once a child has been asked something, and its answer is waited for."""
    is_asked, receive = Event(), _Child.receive

    def receive_and_say_so(child: _Child, max_bytes: int, time_limit_s: float) -> bytes:
        is_asked.set()
        return receive(child, max_bytes, time_limit_s)

    monkeypatch.setattr(_Child, "receive", receive_and_say_so)
    return is_asked


def test_a_child_that_dies_at_work_asks_for_another_try(analyst: Analyst, image: Path, is_asked: Event) -> None:
    expected = analyst.analyse("chest", [instance(image)])
    process_id = analysis_process()
    os.kill(process_id, signal.SIGSTOP)
    is_asked.clear()
    with ThreadPoolExecutor(1) as pool:
        asked = pool.submit(analyst.analyse, "chest", [instance(image)])
        assert is_asked.wait(60)
        os.kill(process_id, signal.SIGKILL)
        with pytest.raises(Retry, match="the analysis process died"):
            asked.result()
    assert analyst.analyse("chest", [instance(image)]) == expected


def test_a_child_that_hangs_is_ended_at_the_time_limit(
    analyst: Analyst, image: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The limit is short for the one that hangs only: what a child needs for its first image depends on the machine."""
    expected = analyst.analyse("chest", [instance(image)])
    process_id = analysis_process()
    os.kill(process_id, signal.SIGSTOP)
    with monkeypatch.context() as shorter:
        shorter.setattr(_place(analyst), "_time_limit_s", 0.5)
        with pytest.raises(Retry, match=r"took longer than 0\.5 s"):
            analyst.analyse("chest", [instance(image)])
    assert not is_running(process_id)
    assert analyst.analyse("chest", [instance(image)]) == expected


@pytest.mark.parametrize(
    "says",
    [b"", struct.pack("!i", 100), struct.pack("!i", 100) + b'{"scores": ['],
    ids=["nothing", "how long its reply is", "a part of its reply"],
)
def test_a_child_that_was_taken_over_cannot_hold_up_who_waits_for_it(
    analyst: Analyst,
    new_analyst: Callable[..., Analyst],
    image: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    says: bytes,
) -> None:
    program = tmp_path / "taken_over"
    lines = [
        f"#!{sys.executable}",
        "import os, sys, time",
        "connection = int(sys.argv[4])",
        "os.write(connection, bytes.fromhex('000000027b7d'))  # it is ready",
        "os.read(connection, 4096)",
        f"os.write(connection, {says!r})",
        "time.sleep(600)",
    ]
    program.write_text("\n".join(lines))
    program.chmod(0o700)
    with monkeypatch.context() as changed:
        changed.setattr("inference.children.sys.executable", str(program))
        with pytest.raises(Retry, match="the analysis process took longer than 1 s"):
            new_analyst(time_limit_s=1.0).analyse("chest", [instance(image)])
    assert running_children("inference.child") == []
    assert analyst.analyse("chest", [instance(image)]).images


def test_an_image_beyond_the_memory_limit_harms_nothing_else(
    new_analyst: Callable[..., Analyst], image: Path, tmp_path: Path
) -> None:
    side = 7900
    large = np.zeros((side, side), np.uint16)
    large[:, : side // 2] = 4095
    huge = write_image(tmp_path / "huge.dcm", Rows=side, Columns=side, PixelData=large.tobytes())
    analyst = new_analyst(memory_limit_bytes=550 << 20)
    with pytest.raises(Retry, match="the analysis process died") as caught:
        analyst.analyse("chest", [instance(huge)])
    assert caught.value.hint == "It may have needed more memory than allowed."
    assert analyst.analyse("chest", [instance(image)]).images


def test_networks_that_fit_each_but_not_together_are_all_served(
    new_analyst: Callable[..., Analyst], installed_dir: Path, image: Path
) -> None:
    """One study's chest and wrist, say: whoever comes second must not find the first one's memory in its way."""
    for name in ("wide", "high"):
        network = spacious(filter_network(2), size_bytes=200 << 20)
        build_package(installed_dir / name / "1.0.0", name=name, network=network)
    analyst = new_analyst(memory_limit_bytes=1 << 30)
    for name in ("wide", "high", "wide"):
        assert analyst.analyse(name, [instance(image)]).images


def test_too_little_memory_to_start_asks_for_another_try(new_analyst: Callable[..., Analyst], image: Path) -> None:
    with pytest.raises(Retry, match="the analysis process died") as caught:
        new_analyst(memory_limit_bytes=64 << 20).analyse("chest", [instance(image)])
    assert "memory" in caught.value.hint


@pytest.mark.parametrize(
    ("limit_s", "program", "message"),
    [
        (0.01, sys.executable, r"the analysis process did not start within 0\.01 s"),
        (60.0, "/bin/false", "the analysis process died while it started"),
    ],
    ids=["slow", "dead"],
)
def test_a_child_that_does_not_start_asks_for_another_try_and_is_ended(
    analyst: Analyst, image: Path, monkeypatch: pytest.MonkeyPatch, limit_s: float, program: str, message: str
) -> None:
    with monkeypatch.context() as changed:
        changed.setattr("inference.children.START_LIMIT_S", limit_s)
        changed.setattr("inference.children.sys.executable", program)
        with pytest.raises(Retry, match=message):
            analyst.analyse("chest", [instance(image)])
        assert running_children("inference.child") == []
    assert analyst.analyse("chest", [instance(image)]).images


def test_threads_take_turns_and_get_their_own_answers(analyst: Analyst, tmp_path: Path) -> None:
    instances = [
        instance(
            write_image(tmp_path / f"{number}.dcm", PixelData=np.roll(pattern, number * 97).tobytes()),
            sop_instance_uid=f"2.25.{number}",
        )
        for number in range(8)
        for pattern in (np.arange(64 * 56, dtype=np.uint16) % (40 + 7 * number),)
    ]
    one_by_one = [analyst.analyse("chest", [one]) for one in instances]
    with ThreadPoolExecutor(2) as pool:
        at_once = list(pool.map(lambda one: analyst.analyse("chest", [one]), instances))
    assert at_once == one_by_one
    assert len({analysis.images[0].findings for analysis in one_by_one}) == 8


def test_closing_leaves_no_process_and_the_analyst_can_be_used_again(analyst: Analyst, image: Path) -> None:
    analyst.analyse("chest", [instance(image)])
    process_id = analysis_process()
    analyst.close()
    assert not is_running(process_id)
    assert analyst.analyse("chest", [instance(image)])


def test_closing_does_not_wait_for_a_child_that_hangs(analyst: Analyst, image: Path, is_asked: Event) -> None:
    analyst.analyse("chest", [instance(image)])
    process_id = analysis_process()
    os.kill(process_id, signal.SIGSTOP)
    is_asked.clear()
    with ThreadPoolExecutor(1) as pool:
        asked = pool.submit(analyst.analyse, "chest", [instance(image)])
        assert is_asked.wait(60)
        analyst.close()
        with pytest.raises(Retry, match="the analysis process died"):
            asked.result(30)
    assert not is_running(process_id)
    assert analyst.analyse("chest", [instance(image)]).images


def test_the_child_knows_no_secret_of_its_parent(
    analyst: Analyst, image: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLLIMATOR_NODE__DATABASE_URL", "postgresql://secret")
    analyst.display(str(image))
    assert b"secret" not in Path(f"/proc/{analysis_process()}/environ").read_bytes()


def test_the_child_has_no_network(analyst: Analyst, image: Path) -> None:
    """What a hostile image may make of a decoder cannot call home."""
    analyst.display(str(image))
    status = Path(f"/proc/{analysis_process()}/status").read_text(encoding="ascii")
    assert "Seccomp:\t2\n" in status  # filtered, as tests/inference/test_no_network.py shows


PARENT = """
    import sys, time
    from pathlib import Path
    sys.path.insert(0, {root!r})
    import structlog
    from domain.routing import NO_RULEBOOK
    from inference.analyst import Analyst
    from tests.inference.images import instance

    structlog.configure(logger_factory=structlog.PrintLoggerFactory(sys.stderr))
    analyst = Analyst(
        installed_dir=Path({models!r}), memory_limit_bytes=4 << 30, time_limit_s=60.0, rulebook=NO_RULEBOOK
    )
    analyst.display({image!r})
    analyst.analyse("chest", [instance(Path({image!r}))])
    {then}
"""


def parent(installed_dir: Path, image: Path, then: str) -> list[str]:
    program = PARENT.format(root=str(ROOT), models=str(installed_dir), image=str(image), then=then)
    return [sys.executable, "-c", textwrap.dedent(program)]


def test_the_child_ends_when_its_parent_is_killed(installed_dir: Path, image: Path) -> None:
    command = parent(installed_dir, image, "print('ready', flush=True); time.sleep(60)")
    with subprocess.Popen(command, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"ready\n"
        (child,) = children(process.pid)
        process.kill()
    assert within(60, lambda: not is_running(child))


def test_the_callers_process_imports_neither_codecs_nor_a_runtime(installed_dir: Path, image: Path) -> None:
    then = "print({name.split('.')[0] for name in sys.modules} & {'imagecodecs', 'onnxruntime', 'onnx', 'torch'})"
    ended = subprocess.run(parent(installed_dir, image, then), check=True, capture_output=True, text=True)
    assert ended.stdout == "set()\n"


@pytest.mark.parametrize("module", ["cli.worker", "cli.models", "inference.child", "inference.install"])
def test_serving_needs_no_torch(module: str) -> None:
    program = f"import sys, {module}; print('torch' in sys.modules, 'onnx' in sys.modules)"
    ended = subprocess.run([sys.executable, "-c", program], check=True, capture_output=True, text=True, cwd=ROOT)
    assert ended.stdout == "False False\n"
