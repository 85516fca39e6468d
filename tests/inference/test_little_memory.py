"""Neither an image nor a network is to blame where there is no memory to read it: many libraries only say they fail."""

import subprocess
import sys
from pathlib import Path

import imagecodecs
import numpy as np
import pytest
from onnx import numpy_helper
from pydicom.encaps import encapsulate
from pydicom.uid import JPEG2000Lossless

from tests.factories.packages import filter_network
from tests.factories.sources import radiograph
from tests.inference.images import write

SIDE = 1700

READS = """
import resource, sys
from pathlib import Path
from domain.errors import Refuse
from inference import pixels
in_use = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
resource.setrlimit(resource.RLIMIT_AS, (in_use + (int(sys.argv[2]) << 20),) * 2)
try:
    pixels.read(sys.argv[1])
    print("read")
except MemoryError:
    print("no memory")
except Refuse as refusal:
    print(refusal.message)
"""


@pytest.fixture(scope="module")
def film(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """JPEG 2000, 1700 x 1700."""
    down, across = np.meshgrid(np.arange(SIDE), np.arange(SIDE), indexing="ij")
    stream = imagecodecs.jpeg2k_encode(((down * across) % 4096).astype(np.uint16), level=0, codecformat="J2K")
    dataset = radiograph(1)
    dataset.Rows = dataset.Columns = SIDE
    dataset.file_meta.TransferSyntaxUID = JPEG2000Lossless
    dataset.PixelData = encapsulate([bytes(stream)])
    dataset["PixelData"].is_undefined_length = True
    return write(dataset, tmp_path_factory.mktemp("film") / "film.dcm")


@pytest.mark.parametrize("room_mb", [3, 4, 10, 15])
def test_a_film_whose_decoder_finds_no_memory_is_not_refused(film: Path, room_mb: int) -> None:
    ended = subprocess.run([sys.executable, "-c", READS, film, str(room_mb)], capture_output=True, text=True)
    assert ended.stdout == "no memory\n"


def test_with_enough_memory_it_is_read(film: Path) -> None:
    ended = subprocess.run([sys.executable, "-c", READS, film, "256"], capture_output=True, text=True)
    assert ended.stdout == "read\n"


def test_with_enough_memory_a_damaged_film_is_refused(film: Path, tmp_path: Path) -> None:
    damaged = tmp_path / "film.dcm"
    content = film.read_bytes()
    place = content.index(b"\xff\x52") + 4  # behind COD and its length: how all was coded
    damaged.write_bytes(content[:place] + b"\xff" * 10 + content[place + 10 :])
    ended = subprocess.run([sys.executable, "-c", READS, damaged, "256"], capture_output=True, text=True)
    assert ended.stdout.startswith("the pixels cannot be decoded (Jpeg2kError")


LOADS = """
import resource, sys
from pathlib import Path
from inference.onnx_graph import check_graph
content = Path(sys.argv[1]).read_bytes()
in_use = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
resource.setrlimit(resource.RLIMIT_AS, (in_use + (int(sys.argv[2]) << 20),) * 2)
try:
    check_graph(content)
    print("looked at")
except MemoryError:
    print("no memory")
except Exception as error:
    print(error)
"""


@pytest.mark.parametrize(("room_mb", "says"), [(40, "no memory\n"), (512, "looked at\n")])
def test_a_network_that_finds_no_memory_is_not_taken_for_another_file(tmp_path: Path, room_mb: int, says: str) -> None:
    """That would be the package's fault, and would stay so in a process that goes on."""
    network = filter_network(2)
    network.graph.initializer.append(numpy_helper.from_array(np.ones(16 << 20, np.float32), "unused"))
    (tmp_path / "model.onnx").write_bytes(network.SerializeToString())
    ended = subprocess.run(
        [sys.executable, "-c", LOADS, tmp_path / "model.onnx", str(room_mb)], capture_output=True, text=True
    )
    assert ended.stdout == says
