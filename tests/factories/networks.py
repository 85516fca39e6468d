"""Small networks of the kinds that adapters ask, made of ONNX's own operators."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from onnx import ModelProto, NodeProto, TensorProto, helper, numpy_helper

SIZE = 32
CELL = 8  # pixels; a detector has one box a cell
CELLS = SIZE // CELL
STEEPNESS, MIDDLE = 12.0, 0.7


def spot_detector(layout: str) -> ModelProto:
    """Of one label: a box of twelve pixels on each cell, whose score is how bright the cell is. Three channels in."""
    boxes = _boxes()
    middle_nodes = [
        helper.make_node("AveragePool", ["image"], ["cells"], kernel_shape=[CELL, CELL], strides=[CELL, CELL]),
        helper.make_node("ReduceMean", ["cells", "channel"], ["grey"], keepdims=1),
        helper.make_node("Sub", ["grey", "middle"], ["above"]),
        helper.make_node("Mul", ["above", "steepness"], ["logit"]),
        helper.make_node("Sigmoid", ["logit"], ["score"]),
    ]
    constants: dict[str, NDArray[Any]] = {
        "channel": np.array([1], np.int64),
        "middle": np.array(MIDDLE, np.float32),
        "steepness": np.array(STEEPNESS, np.float32),
    }
    if layout == "yolov8":
        constants |= {"boxes": boxes.T[np.newaxis], "shape": np.array([1, 1, CELLS**2], np.int64)}
        ends = [
            helper.make_node("Reshape", ["score", "shape"], ["column"]),
            helper.make_node("Concat", ["boxes", "column"], ["output0"], axis=1),
        ]
    else:
        objectness = np.ones((1, CELLS**2, 1), np.float32)
        constants |= {"boxes": np.concatenate([boxes[np.newaxis], objectness], axis=2)}
        constants |= {"shape": np.array([1, CELLS**2, 1], np.int64)}
        ends = [
            helper.make_node("Reshape", ["score", "shape"], ["column"]),
            helper.make_node("Concat", ["boxes", "column"], ["output0"], axis=2),
        ]
    return _model(3, [*middle_nodes, *ends], {"output0": [1, None, None]}, constants)


def spine_of(points: Sequence[tuple[float, float]], *, certainty: float) -> ModelProto:
    """Points that lie where they lie, whatever the image: (x, y) in [0, 1]."""
    constants: dict[str, NDArray[Any]] = {
        "fixed": np.array([points], np.float32),
        "sure": np.full((1, len(points)), certainty, np.float32),
        "nothing": np.array(0.0, np.float32),
        "all": np.array([0, 1, 2, 3], np.int64),
    }
    nodes = [
        helper.make_node("ReduceMean", ["image", "all"], ["mean"], keepdims=0),
        helper.make_node("Mul", ["mean", "nothing"], ["zero"]),
        helper.make_node("Add", ["fixed", "zero"], ["points"]),
        helper.make_node("Add", ["sure", "zero"], ["certainty"]),
    ]
    return _model(1, nodes, {"points": [1, len(points), 2], "certainty": [1, len(points)]}, constants)


def classifier_of(activation: NDArray[np.float32]) -> ModelProto:
    """Scores of 0.9 and this class activation (labels, h, w), whatever the image."""
    labels = len(activation)
    constants: dict[str, NDArray[Any]] = {
        "fixed": activation[np.newaxis],
        "sure": np.full((1, labels), 0.9, np.float32),
        "nothing": np.array(0.0, np.float32),
        "all": np.array([0, 1, 2, 3], np.int64),
    }
    nodes = [
        helper.make_node("ReduceMean", ["image", "all"], ["mean"], keepdims=0),
        helper.make_node("Mul", ["mean", "nothing"], ["zero"]),
        helper.make_node("Add", ["sure", "zero"], ["scores"]),
        helper.make_node("Add", ["fixed", "zero"], ["class_activation"]),
    ]
    return _model(1, nodes, {"scores": [1, labels], "class_activation": [1, *activation.shape]}, constants)


def hungry(network: ModelProto, *, size_bytes: int) -> ModelProto:
    """The same network, which needs so much memory on its way."""
    graph = network.graph
    first = graph.node[0]
    more: dict[str, NDArray[Any]] = {
        "one": np.ones(1, np.float32),
        "many": np.array([size_bytes // 4], np.int64),
        "across": np.array([0], np.int64),
    }
    graph.initializer.extend(numpy_helper.from_array(value, name) for name, value in more.items())
    nodes = [
        helper.make_node("Expand", ["one", "many"], ["ones"]),
        helper.make_node("ReduceMean", ["ones", "across"], ["still_one"], keepdims=0),
        helper.make_node("Mul", [first.input[0], "still_one"], ["as_it_was"]),
    ]
    first.input[0] = "as_it_was"
    return _with_first(network, nodes)


def spacious(network: ModelProto, *, size_bytes: int) -> ModelProto:
    """The same network, which takes twice so much memory when it runs, and has its runtime keep that."""
    graph = network.graph
    image = graph.node[0].input[0]
    more: dict[str, NDArray[Any]] = {
        "many": np.array([size_bytes // 4], np.int64),
        "nothing": np.array(0.0, np.float32),
    }
    graph.initializer.extend(numpy_helper.from_array(value, name) for name, value in more.items())
    nodes = [
        helper.make_node("ReduceMean", [image], ["grey"], keepdims=0),
        helper.make_node("Expand", ["grey", "many"], ["greys"]),
        helper.make_node("Cos", ["greys"], ["waves"]),
        helper.make_node("ReduceMean", ["waves"], ["wave"], keepdims=0),
        helper.make_node("Mul", ["wave", "nothing"], ["still"]),
        helper.make_node("Add", [image, "still"], ["as_it_was"]),
    ]
    graph.node[0].input[0] = "as_it_was"
    return _with_first(network, nodes)


def endless(network: ModelProto) -> ModelProto:
    """The same network, which never comes to an end."""
    graph = network.graph
    first = graph.node[0]
    graph.initializer.append(numpy_helper.from_array(np.array(True), "true"))
    body = helper.make_graph(
        [helper.make_node("Identity", ["goes_on"], ["on"]), helper.make_node("Identity", ["before"], ["after"])],
        "body",
        [
            helper.make_tensor_value_info("round", TensorProto.INT64, []),
            helper.make_tensor_value_info("goes_on", TensorProto.BOOL, []),
            helper.make_tensor_value_info("before", TensorProto.FLOAT, None),
        ],
        [
            helper.make_tensor_value_info("on", TensorProto.BOOL, []),
            helper.make_tensor_value_info("after", TensorProto.FLOAT, None),
        ],
    )
    loop = helper.make_node("Loop", ["", "true", first.input[0]], ["at_last"], body=body)
    first.input[0] = "at_last"
    return _with_first(network, [loop])


def _with_first(network: ModelProto, nodes: Sequence[NodeProto]) -> ModelProto:
    """The network with these nodes before its own."""
    own = list(network.graph.node)
    del network.graph.node[:]
    network.graph.node.extend([*nodes, *own])
    return network


def _boxes() -> NDArray[np.float32]:
    """(cells, 4) centre x, centre y, width, height; row by row."""
    centres = (np.arange(CELLS, dtype=np.float32) + 0.5) * CELL
    down, across = np.meshgrid(centres, centres, indexing="ij")
    size = np.full(CELLS**2, 12.0, np.float32)
    return np.stack([across.ravel(), down.ravel(), size, size], axis=1).astype(np.float32)


def _model(
    channels: int,
    nodes: Sequence[NodeProto],
    outputs: dict[str, list[int | None]],
    constants: dict[str, NDArray[Any]],
) -> ModelProto:
    graph = helper.make_graph(
        nodes,
        "spot",
        [helper.make_tensor_value_info("image", TensorProto.FLOAT, ["batch", channels, SIZE, SIZE])],
        [helper.make_tensor_value_info(name, TensorProto.FLOAT, shape) for name, shape in outputs.items()],
        [numpy_helper.from_array(value, name) for name, value in constants.items()],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10)
