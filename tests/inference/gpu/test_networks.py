"""A package on a device: the same answers as in the child, alone and in batches, and a gate before it serves."""

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from domain.errors import Misconfigured
from inference.golden import synthetic_radiograph
from inference.gpu.device import Cpu, Outputs, open_device
from inference.gpu.errors import OutOfMemory, Unfit
from inference.gpu.networks import DeviceNetwork, open_network, sizes
from inference.network import Network
from inference.package import Package, load
from inference.pixels import network_input
from inference.preprocess import Float32
from inference.torch_graph import write
from tests.factories.networks import spine_of
from tests.factories.packages import INPUT_SIZE, build_package, filter_network
from tests.factories.torch_networks import Filter, torch_filter

FORMATS = {"onnx": b"", "torch": torch_filter()}
MEASURES = """
[landmarks]
measure = "cobb_angle"
points = 16
least_certainty = 0.5

[[measures]]
label = "Cobb angle"
code = { value = "COBB", scheme = "99COLLIM", meaning = "Cobb angle" }
unit = { value = "deg", scheme = "UCUM", meaning = "degree" }
"""


class SmallCpu(Cpu):
    """A CPU device on which only so many images fit, as on a GPU whose memory others use."""

    def __init__(self, fits: int) -> None:
        self._fits = fits

    def captured(self, run: Callable[[], Outputs], pool: object) -> Callable[[], Outputs]:
        if max(len(output) for output in run().values()) > self._fits:
            raise OutOfMemory("the device is full")
        return run


class FullOnce(Cpu):
    """A CPU device whose memory runs out once, when it is told."""

    is_full = False

    def captured(self, run: Callable[[], Outputs], pool: object) -> Callable[[], Outputs]:
        def run_unless_full() -> Outputs:
            if self.is_full:
                self.is_full = False
                raise OutOfMemory("the device is full")
            return run()

        return run_unless_full


@pytest.fixture(params=sorted(FORMATS))
def package(request: pytest.FixtureRequest, tmp_path: Path) -> Package:
    return load(build_package(tmp_path / "chest", torch_network=FORMATS[request.param]))


def images(count: int) -> list[Float32]:
    generator = np.random.default_rng(count)
    return [generator.normal(size=(1, INPUT_SIZE, INPUT_SIZE)).astype(np.float32) for _ in range(count)]


def scores(network: DeviceNetwork, of: Sequence[Float32]) -> Float32:
    return np.asarray(network.start(of).outputs()["scores"].copy(), np.float32)


def test_batches_are_powers_of_two_up_to_the_largest() -> None:
    assert sizes(16) == [16, 8, 4, 2, 1]
    assert sizes(6) == [6, 4, 2, 1]
    assert sizes(1) == [1]


def test_a_device_gives_what_the_child_gives(package: Package) -> None:
    network = open_network(package, Cpu(), largest=4)
    radiograph_input = network_input(synthetic_radiograph(), package.manifest.preprocessing)
    assert np.allclose(scores(network, [radiograph_input])[0], Network(package).golden_numbers(), atol=1e-6)


@pytest.mark.parametrize("count", [1, 2, 3, 5, 8])
def test_each_image_of_a_batch_gets_the_answer_that_it_gets_alone(package: Package, count: int) -> None:
    network = open_network(package, Cpu(), largest=8)
    batch = images(count)
    alone = np.concatenate([scores(network, [image]) for image in batch])
    assert np.allclose(scores(network, batch), alone, atol=1e-6)
    assert len(np.unique(alone[:, 0])) == count


def test_two_batches_under_way_do_not_mix(package: Package) -> None:
    network = open_network(package, Cpu(), largest=4)
    first, second = images(3), images(4)
    under_way = [network.start(first), network.start(second)]
    given = [running.outputs()["scores"].copy() for running in under_way]
    assert np.allclose(given[0], scores(network, first), atol=1e-6)
    assert np.allclose(given[1], scores(network, second), atol=1e-6)


def test_a_start_that_fails_leaves_the_batch_that_is_under_way_its_own_answers(tmp_path: Path) -> None:
    device = FullOnce()
    network = open_network(load(build_package(tmp_path / "chest", torch_network=torch_filter())), device, largest=1)
    first, second = images(2)
    alone = [scores(network, [image]) for image in (first, second)]
    under_way = [network.start([first])]
    device.is_full = True
    with pytest.raises(OutOfMemory):
        network.start([second])
    under_way.append(network.start([second]))
    assert [running.outputs()["scores"].tolist() for running in under_way] == [given.tolist() for given in alone]


@pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no GPU here")
def test_on_a_gpu_a_batch_is_done_only_after_what_was_given_to_the_stream_before(tmp_path: Path) -> None:
    package = load(build_package(tmp_path / "chest", torch_network=torch_filter()))
    network = open_network(package, open_device("cuda:0"), largest=4)
    work = torch.ones((8192, 8192), device="cuda:0")
    for _ in range(20):  # a few hundred milliseconds
        work @ work
    running = network.start(images(3))
    assert not running.is_done()
    running.outputs()
    assert running.is_done()


def test_on_the_cpu_a_batch_is_done_once_it_is_started(package: Package) -> None:
    assert open_network(package, Cpu(), largest=4).start(images(3)).is_done()


def test_a_network_whose_answers_differ_on_the_device_never_serves(tmp_path: Path, package: Package) -> None:
    folder = build_package(tmp_path / "wrong", is_golden_right=False)
    with pytest.raises(Unfit, match="what it gives for the golden radiograph differs by 0"):
        open_network(load(folder), Cpu(), largest=4)


class OverTheBatch(Filter):
    """Normalises over all images that come together."""

    def __init__(self) -> None:
        super().__init__(2)
        self.normalise = nn.BatchNorm2d(1, track_running_stats=False)

    def forward(self, image: Tensor) -> tuple[Tensor, Tensor]:
        return super().forward(self.normalise(image))


class LastFirst(Filter):
    """Gives the answers of a batch in the wrong order."""

    def __init__(self) -> None:
        super().__init__(2)

    def forward(self, image: Tensor) -> tuple[Tensor, Tensor]:
        scores, activation = super().forward(image)
        return scores.flip(0), activation.flip(0)


@pytest.mark.parametrize("mixes", [OverTheBatch, LastFirst])
def test_a_network_that_mixes_the_images_of_a_batch_never_serves_on_a_device(
    tmp_path: Path, mixes: Callable[[], Filter]
) -> None:
    """They may be of different patients. Alone it answers as it should, and so does a batch of one image many times."""
    content = write(mixes(), torch.zeros(2, 1, INPUT_SIZE, INPUT_SIZE), ["scores", "class_activation"])
    package = load(build_package(tmp_path / "chest", torch_network=content))
    assert open_network(package, Cpu(), largest=1).largest == 1
    with pytest.raises(Unfit, match="in a batch of 4 it answers an image otherwise than alone, by 0"):
        open_network(package, Cpu(), largest=4)


def test_a_device_has_its_own_tolerance(tmp_path: Path) -> None:
    folder = build_package(tmp_path / "chest")
    manifest = (folder / "manifest.toml").read_text(encoding="utf-8")
    before = load(folder).manifest.golden
    assert before.device_tolerance == before.tolerance == 0.0001
    shifted = manifest.replace(f"scores = [{before.scores[0]}", f"scores = [{before.scores[0] + 0.001}")
    (folder / "manifest.toml").write_text(shifted, encoding="utf-8")
    with pytest.raises(Unfit, match=r"differs by 0\.001; 0\.0001 is tolerated"):
        open_network(load(folder), Cpu(), largest=2)
    wider = shifted.replace("tolerance = 0.0001", "tolerance = 0.0001\ndevice_tolerance = 0.01")
    (folder / "manifest.toml").write_text(wider, encoding="utf-8")
    assert open_network(load(folder), Cpu(), largest=2).largest == 2
    with pytest.raises(Misconfigured, match=r"differs by 0\.001; 0\.0001 is tolerated"):
        Network(load(folder))


def test_changed_weights_never_serve(package: Package) -> None:
    package.weights_path.write_bytes(package.weights_path.read_bytes()[:-1] + b"\0")
    with pytest.raises(Unfit, match="the manifest says"):
        open_network(package, Cpu(), largest=4)


def test_the_largest_batch_is_the_largest_that_fits(tmp_path: Path) -> None:
    package = load(build_package(tmp_path / "chest", torch_network=torch_filter()))
    network = open_network(package, SmallCpu(fits=5), largest=16)
    assert network.largest == 4
    assert scores(network, images(3)).shape == (3, 2)
    with pytest.raises(OutOfMemory):
        open_network(package, SmallCpu(fits=0), largest=16)


def test_a_network_that_gives_one_answer_for_the_whole_batch_is_asked_for_one_image_at_a_time(tmp_path: Path) -> None:
    points = [(x, y) for y in (0.1, 0.3, 0.5, 0.7) for x, y in ((0.4, y), (0.6, y), (0.4, y + 0.1), (0.6, y + 0.1))]
    folder = build_package(
        tmp_path / "spine",
        name="spine",
        labels=(),
        network=spine_of(points, certainty=0.9),
        adapter="landmarks",
        tables=MEASURES,
        golden_length=48,
    )
    assert open_network(load(folder), Cpu(), largest=8).largest == 1


def test_an_onnx_network_for_one_image_is_asked_for_one_at_a_time(tmp_path: Path) -> None:
    network = filter_network(2)
    network.graph.input[0].type.tensor_type.shape.dim[0].dim_value = 1
    assert open_network(load(build_package(tmp_path / "chest", network=network)), Cpu(), largest=8).largest == 1


def test_a_torch_network_for_another_kind_of_image_is_unfit(tmp_path: Path) -> None:
    class Three(nn.Module):
        def forward(self, image: Tensor) -> tuple[Tensor, Tensor]:
            return torch.sigmoid(image.mean((2, 3)))[:, :2], image[:, :2]

    content = write(Three(), torch.zeros(2, 3, INPUT_SIZE, INPUT_SIZE), ["scores", "class_activation"])
    folder = build_package(tmp_path / "chest", torch_network=content, channels=3)
    text = (folder / "manifest.toml").read_text(encoding="utf-8")
    (folder / "manifest.toml").write_text(text.replace("channels = 3", "channels = 1"), encoding="utf-8")
    with pytest.raises(Unfit):
        open_network(load(folder), Cpu(), largest=2)


def test_a_device_that_is_not_there_says_so() -> None:
    with pytest.raises(Misconfigured, match="cuda:99 cannot be used: "):
        open_device("cuda:99")


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU here")
def test_without_a_gpu_the_reason_is_told() -> None:
    with pytest.raises(Misconfigured, match=r"this torch is built without CUDA|CUDA finds no GPU"):
        open_device("cuda:0")


@pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no GPU here")
def test_a_gpu_gives_what_the_cpu_gives(package: Package) -> None:
    network, on_cpu = open_network(package, open_device("cuda:0"), largest=4), open_network(package, Cpu(), largest=4)
    batch = images(3)
    assert np.allclose(scores(network, batch), scores(on_cpu, batch), atol=1e-4)


def test_both_formats_of_one_network_agree_on_a_device(tmp_path: Path) -> None:
    made = [
        open_network(load(build_package(tmp_path / name, torch_network=content)), Cpu(), largest=4)
        for name, content in FORMATS.items()
    ]
    batch = images(4)
    assert np.allclose(scores(made[0], batch), scores(made[1], batch), atol=1e-5)
