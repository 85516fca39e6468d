"""Bringing packages here: what is not what it should be never gets as far as being loaded."""

import hashlib
import http.server
import json
import os
import re
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path

import numpy as np
import pytest
import torch
from onnx import ModelProto, TensorProto, helper, numpy_helper
from torch import Tensor

from domain.errors import Misconfigured, Refuse, Retry
from inference.children import Limits
from inference.install import add, check, download, pull
from inference.network import Network, open_session
from inference.onnx_graph import check_graph
from inference.package import load, rewritten
from inference.registry import Registry
from inference.torch_graph import write
from tests.factories.networks import endless, hungry
from tests.factories.packages import INPUT_SIZE, build_package, filter_network
from tests.factories.torch_networks import Filter, torch_filter
from tests.inference.processes import running_children

CONTENT = b"weights" * 1000
SHA256 = hashlib.sha256(CONTENT).hexdigest()


class Weights(http.server.BaseHTTPRequestHandler):
    """A server of weights with a way to fail at each path."""

    def do_GET(self) -> None:
        if self.path == "/cut":
            self.send_response(200)
            self.send_header("Content-Length", str(len(CONTENT)))
            self.end_headers()
            self.wfile.write(CONTENT[:100])
            return
        if self.path == "/drip":
            self.send_response(200)
            self.send_header("Content-Length", str(len(CONTENT)))
            self.end_headers()
            with suppress(OSError):
                for place in range(40):
                    self.wfile.write(CONTENT[place : place + 1])
                    time.sleep(0.1)
            return
        bodies = {"/weights": CONTENT, "/changed": CONTENT[:-1] + b"!", "/endless": CONTENT * 3000}
        if self.path not in bodies:
            self.send_error(503 if self.path == "/busy" else 404)
            return
        self.send_response(200)
        self.end_headers()
        # A client that has seen enough closes the connection.
        with suppress(OSError):
            self.wfile.write(bodies[self.path])

    def log_message(self, format: str, *args: object) -> None:
        """Nothing: pytest shows what matters."""


@pytest.fixture(scope="module")
def server() -> Iterator[str]:
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Weights) as running:
        threading.Thread(target=running.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{running.server_port}"
        running.shutdown()


def test_a_download_with_the_right_size_and_sha256_is_kept(server: str, tmp_path: Path) -> None:
    download(f"{server}/weights", tmp_path / "file", size_bytes=len(CONTENT), sha256=SHA256)
    assert (tmp_path / "file").read_bytes() == CONTENT


@pytest.mark.parametrize(
    ("path", "error", "message"),
    [
        ("/changed", Refuse, "gave 7000 bytes, SHA-256 "),
        ("/endless", Refuse, "gave more than 7000 bytes, SHA-256 "),
        ("/nowhere", Refuse, "is not given to us: HTTP 404 Not Found"),
        ("/busy", Retry, "cannot be downloaded now: HTTP 503 Service Unavailable"),
        ("/cut", Retry, "it ended after 100 bytes, 6900 early"),
    ],
)
def test_any_other_download_fails_with_one_clear_line(
    server: str, tmp_path: Path, path: str, error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message):
        download(f"{server}{path}", tmp_path / "file", size_bytes=len(CONTENT), sha256=SHA256)


def test_a_server_that_drips_holds_nobody_beyond_the_limit(
    server: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("inference.install.DOWNLOAD_LIMIT_S", 0.3)
    with pytest.raises(Retry, match=r"it took longer than 0\.3 s"):
        download(f"{server}/drip", tmp_path / "file", size_bytes=len(CONTENT), sha256=SHA256)
    assert 0 < (tmp_path / "file").stat().st_size < 40


def test_a_server_that_is_not_there_asks_for_another_try(tmp_path: Path) -> None:
    with pytest.raises(Retry, match=r"cannot be downloaded: .*Connection refused"):
        download("http://127.0.0.1:9/weights", tmp_path / "file", size_bytes=1, sha256=SHA256)


def test_a_failed_pull_leaves_nothing_behind(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("https_proxy", "http://127.0.0.1:9")
    with pytest.raises(Retry, match="cannot be downloaded"):
        pull("chest", tmp_path / "models")
    assert os.listdir(tmp_path / "models") == []


@pytest.mark.parametrize(
    ("name", "message"),
    [("spine", "spine has no published weights to pull"), ("brain", "no model package is named 'brain'")],
)
def test_only_a_package_with_published_weights_can_be_pulled(tmp_path: Path, name: str, message: str) -> None:
    with pytest.raises(Misconfigured, match=message):
        pull(name, tmp_path)


def test_without_torch_nothing_is_downloaded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("inference.install.CONVERTERS_NEED", ("torch", "no_such_module"))
    monkeypatch.setenv("https_proxy", "http://127.0.0.1:9")
    with pytest.raises(Misconfigured, match="not installed: no_such_module") as caught:
        pull("chest", tmp_path)
    assert caught.value.hint == "pip install -c constraints.txt '.[convert]'"


def test_an_added_package_is_a_copy(tmp_path: Path) -> None:
    source = build_package(tmp_path / "mine", name="knee")
    (source / "model_card.md").write_text("# Knee", encoding="utf-8")
    (source / "training notes.txt").write_text("private", encoding="utf-8")
    package = add(source, tmp_path / "models")
    assert package.folder == tmp_path / "models" / "knee" / "1.0.0"
    assert sorted(os.listdir(package.folder)) == ["manifest.toml", "model.onnx", "model_card.md"]
    assert os.listdir(tmp_path / "models") == ["knee"]
    assert Registry(tmp_path / "models").get("knee").is_configured


@pytest.mark.parametrize("file", ["manifest.toml", "model.onnx", "model.safetensors", "model_card.md"])
def test_a_link_that_leads_out_of_the_folder_is_refused(tmp_path: Path, file: str) -> None:
    source = build_package(tmp_path / "mine", device_network=torch_filter())
    elsewhere = tmp_path / "elsewhere"
    elsewhere.write_bytes((source / file).read_bytes() if (source / file).exists() else b"a secret")
    (source / file).unlink(missing_ok=True)
    (source / file).symlink_to("../elsewhere")
    with pytest.raises(Refuse, match=f"{file}: is a link that leads out of the folder") as caught:
        add(source, tmp_path / "models")
    assert caught.value.reason == "leads_out"
    assert os.listdir(tmp_path / "models") == []


def test_a_pipe_in_the_place_of_a_file_is_refused_and_not_waited_for(tmp_path: Path) -> None:
    source = build_package(tmp_path / "mine", device_network=torch_filter())
    (source / "model.safetensors").unlink()
    os.mkfifo(source / "model.safetensors")
    with pytest.raises(Refuse, match=r"model\.safetensors: is no file"):
        add(source, tmp_path / "models")


def test_a_link_within_the_folder_is_followed(tmp_path: Path) -> None:
    source = build_package(tmp_path / "mine")
    (source / "model.onnx").rename(source / "weights of May.onnx")
    (source / "model.onnx").symlink_to("weights of May.onnx")
    added = add(source, tmp_path / "models").weights_path
    assert not added.is_symlink()
    assert added.read_bytes() == (source / "weights of May.onnx").read_bytes()


def test_adding_another_version_leaves_the_first_where_it_is(tmp_path: Path) -> None:
    add(build_package(tmp_path / "first"), tmp_path / "models")
    add(build_package(tmp_path / "second", version="2.0.0"), tmp_path / "models")
    registry = Registry(tmp_path / "models")
    assert registry.get("chest").manifest.version == "2.0.0"
    assert registry.get("chest", "1.0.0").folder == tmp_path / "models" / "chest" / "1.0.0"
    assert sorted(os.listdir(tmp_path / "models" / "chest")) == ["1.0.0", "2.0.0"]


def test_adding_the_same_bytes_again_mends_what_was_damaged(tmp_path: Path) -> None:
    source = build_package(tmp_path / "mine")
    damaged = add(source, tmp_path / "models").weights_path
    damaged.write_bytes(b"damaged")
    add(source, tmp_path / "models")
    assert damaged.read_bytes() == (source / "model.onnx").read_bytes()
    assert os.listdir(tmp_path / "models") == ["chest"]


def test_a_package_that_is_installed_once_more_is_there_at_every_moment(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whoever looks meanwhile finds it, and so does the next one where the process was killed."""
    source, models = build_package(tmp_path / "mine"), tmp_path / "models"
    device_uid = add(source, models).device_uid
    seen = []

    def watched(move: Callable[[Path, Path], Path]) -> Callable[[Path, Path], Path]:
        def moved(path: Path, target: Path) -> Path:
            seen.append(Registry(models).get("chest").device_uid)
            return move(path, target)

        return moved

    monkeypatch.setattr(Path, "rename", watched(Path.rename))
    monkeypatch.setattr(Path, "replace", watched(Path.replace))
    add(source, models)
    assert seen == [device_uid] * 2
    assert Registry(models).get("chest").is_configured


def test_other_bytes_under_a_version_that_is_there_are_refused(tmp_path: Path) -> None:
    """What was said under a version, by it and about it, must stay true of it."""
    add(build_package(tmp_path / "first"), tmp_path / "models")
    with pytest.raises(Refuse, match=r"chest 1\.0\.0 is installed already, with other bytes") as caught:
        add(build_package(tmp_path / "second", labels=["Pneumonia"]), tmp_path / "models")
    assert caught.value.hint == "give the changed package a version of its own"
    assert len(Registry(tmp_path / "models").get("chest").manifest.labels) == 2


def test_of_two_who_add_a_version_at_the_same_time_one_is_refused(tmp_path: Path) -> None:
    sources = [build_package(tmp_path / "first"), build_package(tmp_path / "second", labels=["Pneumonia"])]
    with ThreadPoolExecutor() as threads:
        added = [threads.submit(add, source, tmp_path / "models") for source in sources]
    (refused,) = filter(None, (one.exception() for one in added))
    assert isinstance(refused, Refuse)
    assert "chest 1.0.0 is installed already, with other bytes" in refused.message
    (package,) = (one.result() for one in added if not one.exception())
    assert Registry(tmp_path / "models").get("chest").device_uid == package.device_uid


def test_two_who_add_the_same_package_at_the_same_time_are_not_in_each_others_way(tmp_path: Path) -> None:
    source = build_package(tmp_path / "mine")
    with ThreadPoolExecutor() as threads:
        added = [threads.submit(add, source, tmp_path / "models") for _ in range(3)]
    assert {one.result().device_uid for one in added} == {load(source).device_uid}
    assert os.listdir(tmp_path / "models") == ["chest"]


def test_what_a_process_left_that_was_killed_goes_after_a_day(tmp_path: Path) -> None:
    """One that is at work keeps its own."""
    for name, hours in (("old", 25), ("new", 1)):
        folder = tmp_path / "models" / f".incoming-{name}"
        (folder / "chest").mkdir(parents=True)
        os.utime(folder, (time.time() - hours * 3600,) * 2)
    add(build_package(tmp_path / "mine"), tmp_path / "models")
    assert sorted(os.listdir(tmp_path / "models")) == [".incoming-new", "chest"]


FULL = """
import resource, sys
from pathlib import Path
from domain.errors import Misconfigured
from inference.install import add, download
resource.setrlimit(resource.RLIMIT_FSIZE, (100, 100))
try:
    {call}
except Misconfigured as error:
    sys.exit(error.message)
"""


@pytest.mark.parametrize(
    "call", ["add(Path({source!r}), Path({models!r}))", "download({url!r}, Path({models!r}), **{of})"]
)
def test_a_disk_without_room_is_named(server: str, tmp_path: Path, call: str) -> None:
    source, models = str(build_package(tmp_path / "mine")), str(tmp_path / "models")
    of = {"size_bytes": len(CONTENT), "sha256": SHA256}
    code = FULL.format(call=call.format(source=source, models=models, url=f"{server}/weights", of=of))
    ended = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert ended.returncode == 1
    assert f"{tmp_path}" in ended.stderr
    assert "nothing can be installed there: [Errno 27] File too large" in ended.stderr
    assert "Traceback" not in ended.stderr


@pytest.mark.parametrize("version", ["../1.0.0", "1/0", ".1", "spring 2026", "1" * 33])
def test_a_version_that_is_no_folders_name_cannot_be_added(tmp_path: Path, version: str) -> None:
    with pytest.raises(Misconfigured, match="cannot be installed"):
        add(build_package(tmp_path / "mine", name="knee", version=version), tmp_path / "models")
    assert os.listdir(tmp_path / "models") == []


def test_a_package_that_is_refused_leaves_the_installed_one(tmp_path: Path) -> None:
    add(build_package(tmp_path / "first"), tmp_path / "models")
    with pytest.raises(Misconfigured):
        add(
            build_package(tmp_path / "second", version="2.0.0", network=filter_network(2), is_golden_right=False),
            tmp_path / "models",
        )
    assert Registry(tmp_path / "models").get("chest").manifest.version == "1.0.0"
    assert os.listdir(tmp_path / "models") == ["chest"]


def test_other_bytes_than_the_manifests_are_refused(tmp_path: Path) -> None:
    source = build_package(tmp_path / "mine")
    (source / "model.onnx").write_bytes((source / "model.onnx").read_bytes() + b" ")
    with pytest.raises(Misconfigured, match="the manifest says"):
        add(source, tmp_path / "models")


def test_other_golden_scores_than_the_manifests_are_refused(tmp_path: Path) -> None:
    with pytest.raises(
        Misconfigured, match=r"what it gives for the golden radiograph differs by .*; it gives \[0\.\d{6}, 0\.\d{6}\]"
    ):
        add(build_package(tmp_path / "mine", network=filter_network(2), is_golden_right=False), tmp_path / "models")


def of_type(network: ModelProto, kind: int) -> ModelProto:
    """The network with all its inputs, outputs and weights of another type."""
    for value in (*network.graph.input, *network.graph.output):
        value.type.tensor_type.elem_type = kind
    dtype = helper.tensor_dtype_to_np_dtype(kind)
    for tensor in network.graph.initializer:
        if tensor.data_type == TensorProto.FLOAT:
            tensor.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(tensor).astype(dtype), tensor.name))
    return network


def with_shape(network: ModelProto, *shape: int) -> ModelProto:
    """The network, which first gives the image a shape that it cannot have."""
    network.graph.initializer.append(numpy_helper.from_array(np.array(shape, np.int64), "shape"))
    first = network.graph.node[0]
    network.graph.node.insert(0, helper.make_node("Reshape", [first.input[0], "shape"], ["other"]))
    network.graph.node[1].input[0] = "other"
    return network


def with_a_sequence(network: ModelProto) -> ModelProto:
    """The network, whose scores are a list of tensors."""
    network.graph.node[-1].output[0] = "one"
    network.graph.node.append(helper.make_node("SequenceConstruct", ["one"], ["scores"]))
    network.graph.output[0].CopyFrom(helper.make_tensor_sequence_value_info("scores", TensorProto.FLOAT, None))
    return network


@pytest.mark.parametrize(
    ("network", "message"),
    [
        (
            of_type(filter_network(2), TensorProto.FLOAT16),
            r"'tensor\(float16\)'.*; expected one, an image",
        ),
        (with_shape(filter_network(2), 1, 1, 9, 9), "the network cannot be run: .*Reshape"),
        (with_a_sequence(filter_network(2)), "the network's outputs are .*; expected tensors of floats"),
    ],
    ids=["float16", "reshape", "sequence"],
)
def test_a_network_that_cannot_be_run_is_told_in_one_line(tmp_path: Path, network: ModelProto, message: str) -> None:
    source = build_package(tmp_path / "mine", network=network, is_golden_right=False)
    with pytest.raises(Misconfigured, match=message):
        add(source, tmp_path / "models")


@pytest.mark.parametrize("scores", ["[]", "[0.5]", "[0.5, 0.5, 0.5]"])
def test_golden_scores_that_are_not_as_many_as_the_network_gives_are_answered_with_these(
    tmp_path: Path, scores: str
) -> None:
    source = build_package(tmp_path / "mine")
    manifest = source / "manifest.toml"
    text = re.sub(r"(?m)^scores = .*$", f"scores = {scores}", manifest.read_text(encoding="utf-8"))
    manifest.write_text(text, encoding="utf-8")
    found = len(json.loads(scores))
    with pytest.raises(
        Misconfigured, match=rf"expected 2 numbers, found {found}; it gives \[0\.\d{{6}}, 0\.\d{{6}}\]"
    ) as caught:
        add(source, tmp_path / "models")
    gives = caught.value.message.rpartition("it gives ")[2]
    manifest.write_text(text.replace(f"scores = {scores}", f"scores = {gives}"), encoding="utf-8")
    assert add(source, tmp_path / "models").is_configured


def test_a_file_of_another_size_is_named_with_both_sizes_and_not_read(tmp_path: Path) -> None:
    source = build_package(tmp_path / "mine")
    size = load(source).manifest.weights.size_bytes
    with (source / "model.onnx").open("ab") as file:
        file.truncate(1 << 40)
    with pytest.raises(Misconfigured) as caught:
        add(source, tmp_path / "models")
    assert caught.value.message == f"{source / 'model.onnx'}: 1099511627776 bytes; the manifest says {size}"


def test_a_file_of_the_right_size_is_named_with_both_digests(tmp_path: Path) -> None:
    source = build_package(tmp_path / "mine")
    weights = load(source).manifest.weights
    other = bytes(weights.size_bytes)
    (source / "model.onnx").write_bytes(other)
    with pytest.raises(Misconfigured) as caught:
        add(source, tmp_path / "models")
    found = hashlib.sha256(other).hexdigest()
    assert caught.value.message == f"{source / 'model.onnx'}: SHA-256 {found}; the manifest says {weights.sha256}"


@pytest.mark.parametrize(
    ("network", "time_limit_s", "message"),
    [
        (endless(filter_network(2)), 3, "model.onnx cannot be checked: the analysis process took longer than 3 s"),
        (hungry(filter_network(2), size_bytes=3 << 30), 60, "model.onnx cannot be checked: the analysis process died"),
    ],
    ids=["endless", "hungry"],
)
def test_a_network_that_does_not_keep_within_the_limits_of_service_is_refused(
    tmp_path: Path, network: ModelProto, time_limit_s: int, message: str
) -> None:
    source = build_package(tmp_path / "mine", network=network, is_golden_right=False)
    with pytest.raises(Refuse, match=message) as caught:
        add(source, tmp_path / "models", limits=Limits(memory_limit_bytes=2 << 30, time_limit_s=time_limit_s))
    assert caught.value.reason == "not_checked"
    said = f"2048 MiB (inference.memory_limit_mb) and {time_limit_s} s (inference.time_limit_s)"
    assert said in caught.value.hint
    assert os.listdir(tmp_path / "models") == []
    assert running_children("inference.child") == []


def test_whoever_has_not_said_which_bytes_the_weights_are_is_told_what_to_write(tmp_path: Path) -> None:
    """As one does who puts a network beside one of the examples."""
    source = build_package(tmp_path / "mine")
    manifest, content = source / "manifest.toml", (source / "model.onnx").read_bytes()
    empty = rewritten(manifest.read_text(encoding="utf-8"), {"size_bytes": "0", "sha256": '""'})
    manifest.write_text(empty, encoding="utf-8")
    with pytest.raises(Misconfigured, match="the package has no weights") as caught:
        add(source, tmp_path / "models")
    sha256 = hashlib.sha256(content).hexdigest()
    assert caught.value.hint == (
        f'put the bytes of model.onnx into [weights]: size_bytes = {len(content)}, sha256 = "{sha256}"'
    )


def test_a_package_without_weights_cannot_be_added(tmp_path: Path) -> None:
    source = build_package(tmp_path / "mine")
    (source / "model.onnx").unlink()
    with pytest.raises(Misconfigured, match="the package has no weights"):
        add(source, tmp_path / "models")


def external(network: ModelProto) -> ModelProto:
    """The network with its filters in a file of the maker's choice."""
    tensor = network.graph.initializer[0]
    tensor.ClearField("raw_data")
    tensor.data_location = TensorProto.EXTERNAL
    entry = tensor.external_data.add()
    entry.key, entry.value = "location", "../../../../etc/passwd"
    return network


def hidden_in_a_branch(network: ModelProto) -> ModelProto:
    """The network with an operator of another domain inside a subgraph of an If."""
    result = helper.make_tensor_value_info("inner", TensorProto.FLOAT, None)
    node = helper.make_node("Steal", [], ["inner"], domain="com.example")
    condition = helper.make_node("If", ["yes"], ["outer"])
    branch = helper.make_graph([node], "branch", [], [result])
    condition.attribute.extend([helper.make_attribute(name, branch) for name in ("then_branch", "else_branch")])
    network.graph.initializer.append(numpy_helper.from_array(np.array(True), "yes"))
    network.graph.node.append(condition)
    return network


@pytest.mark.parametrize(
    ("network", "reason"),
    [
        (external(filter_network(2)), "external_data"),
        (filter_network(2, domain="com.microsoft"), "custom_operator"),
        (filter_network(2, domain="com.example"), "custom_operator"),
        (hidden_in_a_branch(filter_network(2)), "custom_operator"),
    ],
)
def test_a_network_that_reaches_outside_itself_is_refused(tmp_path: Path, network: ModelProto, reason: str) -> None:
    with pytest.raises(Refuse) as caught:
        check_graph(network.SerializeToString())
    assert caught.value.reason == reason


def test_a_network_that_reaches_outside_itself_cannot_be_added(tmp_path: Path) -> None:
    source = build_package(tmp_path / "mine")
    content = external(filter_network(2)).SerializeToString()
    manifest = (source / "manifest.toml").read_text(encoding="utf-8")
    weights = load(source).manifest.weights
    manifest = manifest.replace(weights.sha256, hashlib.sha256(content).hexdigest())
    manifest = manifest.replace(f"size_bytes = {weights.size_bytes}", f"size_bytes = {len(content)}")
    (source / "manifest.toml").write_text(manifest, encoding="utf-8")
    (source / "model.onnx").write_bytes(content)
    with pytest.raises(Refuse, match="the weights of 'weights' lie outside the ONNX file"):
        add(source, tmp_path / "models")


@pytest.mark.parametrize(
    ("network", "message"),
    [
        (external(filter_network(2)), "the weights of 'weights' lie outside the ONNX file"),
        (filter_network(2, domain="com.microsoft"), "the network uses operators of 'com.microsoft'"),
    ],
)
def test_a_network_that_reaches_outside_itself_never_serves_though_nobody_added_it(
    tmp_path: Path, network: ModelProto, message: str
) -> None:
    """Somebody has copied the folder to where packages lie; onnxruntime itself would load the second one."""
    source = build_package(tmp_path / "models" / "chest", network=network, is_golden_right=False)
    with pytest.raises(Misconfigured, match=message):
        Network(load(source))


# A field that ONNX does not know, 8 bytes long; the four in its middle are where onnxruntime looks for its own format.
LIKE_ORT_FORMAT = b"\x48\x01\x49\0ORTM\0\0\0"


@pytest.mark.parametrize(
    "operator", ["Bernoulli", "Multinomial", "RandomNormal", "RandomNormalLike", "RandomUniform", "RandomUniformLike"]
)
def test_a_network_that_draws_lots_is_refused(operator: str) -> None:
    """Within the golden tolerance it would say something else of the same image each time."""
    network = filter_network(2)
    network.graph.node.append(helper.make_node(operator, ["scores"], ["noise"]))
    with pytest.raises(Refuse, match=f"the network draws lots: {operator}") as caught:
        check_graph(network.SerializeToString())
    assert caught.value.reason == "random_operator"


def test_what_onnxruntime_would_read_in_its_own_format_is_refused() -> None:
    """onnx reads it as the network that follows; onnxruntime would load what nobody has looked at."""
    network = filter_network(2).SerializeToString()
    check_graph(network)
    with pytest.raises(Refuse, match="onnxruntime would read it in its own format") as caught:
        check_graph(LIKE_ORT_FORMAT + network)
    assert caught.value.reason == "not_onnx"


def test_onnxruntime_reads_as_onnx_whatever_the_file_begins_with(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("inference.onnx_graph.check_graph", lambda _: None)
    package = load(build_package(tmp_path / "chest"))
    content = LIKE_ORT_FORMAT + package.weights_path.read_bytes()
    session = open_session(package, content, providers=["CPUExecutionProvider"])
    assert [output.name for output in session.get_outputs()] == ["scores", "class_activation"]


def test_a_package_with_a_file_of_its_own_for_gpus_is_added_with_both(tmp_path: Path) -> None:
    package = add(build_package(tmp_path / "mine", device_network=torch_filter()), tmp_path / "models")
    assert sorted(os.listdir(package.folder)) == ["manifest.toml", "model.onnx", "model.safetensors"]


def test_a_file_for_gpus_that_answers_otherwise_is_refused(tmp_path: Path) -> None:
    other = write(Filter(2, bias=-1.0), torch.zeros(2, 1, INPUT_SIZE, INPUT_SIZE), ["scores", "class_activation"])
    with pytest.raises(Misconfigured, match="what it gives for the golden radiograph differs"):
        add(build_package(tmp_path / "mine", device_network=other), tmp_path / "models")


def test_a_file_for_gpus_with_the_right_scores_and_a_map_that_cannot_be_drawn_is_refused(tmp_path: Path) -> None:
    broken = Filter(2, strength=float("nan"))
    content = write(broken, torch.zeros(2, 1, INPUT_SIZE, INPUT_SIZE), ["scores", "class_activation"])
    with pytest.raises(Misconfigured, match="its class activation is not finite"):
        add(build_package(tmp_path / "mine", device_network=content), tmp_path / "models")


class UpsideDown(Filter):
    def forward(self, image: Tensor) -> tuple[Tensor, Tensor]:
        scores, activation = super().forward(image)
        return scores, activation.flip(2)


def test_a_file_for_gpus_with_the_right_scores_and_maps_of_other_places_is_refused(tmp_path: Path) -> None:
    """The overlay would lie elsewhere, and the report name the other file's SHA-256."""
    content = write(UpsideDown(2), torch.zeros(2, 1, INPUT_SIZE, INPUT_SIZE), ["scores", "class_activation"])
    with pytest.raises(Misconfigured, match=r"class_activation: what model\.safetensors gives .* differs"):
        add(build_package(tmp_path / "mine", device_network=content), tmp_path / "models")


def test_a_file_for_gpus_with_maps_of_another_size_is_refused(tmp_path: Path) -> None:
    content = write(Halved(2), torch.zeros(2, 1, INPUT_SIZE, INPUT_SIZE), ["scores", "class_activation"])
    with pytest.raises(Misconfigured, match=r"differs from what model\.onnx gives by inf of its largest number"):
        add(build_package(tmp_path / "mine", device_network=content), tmp_path / "models")


class Halved(Filter):
    def forward(self, image: Tensor) -> tuple[Tensor, Tensor]:
        scores, activation = super().forward(image)
        return scores, activation[:, :, ::2]


def test_a_file_for_gpus_that_was_changed_is_refused(tmp_path: Path) -> None:
    source = build_package(tmp_path / "mine", device_network=torch_filter())
    (source / "model.safetensors").write_bytes(b"changed")
    with pytest.raises(Misconfigured, match=r"model\.safetensors: 7 bytes"):
        add(source, tmp_path / "models")


@pytest.mark.parametrize("content", [b"", b"not protobuf at all", b"\x08\x07"])
def test_bytes_that_are_no_network_are_refused(content: bytes) -> None:
    with pytest.raises(Refuse, match="not an ONNX file"):
        check_graph(content)


def test_a_good_package_passes_its_check(tmp_path: Path) -> None:
    check(load(build_package(tmp_path / "chest")))
