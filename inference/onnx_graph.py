"""What an ONNX file may hold: one graph of standard operators with all its weights inside.

An operator of another domain is code that its maker brings along; external data is a path of its maker's choice; one
that draws lots says something else of the same image each time.
"""

from collections.abc import Iterator
from typing import Any

import onnx
from google.protobuf.message import DecodeError, Message

from domain.errors import Refuse

STANDARD_DOMAINS = frozenset({"", "ai.onnx"})
DRAWS_LOTS = frozenset(
    {"Bernoulli", "Multinomial", "RandomNormal", "RandomNormalLike", "RandomUniform", "RandomUniformLike"}
)
# onnxruntime's own format, by its flatbuffer's file identifier (bytes 4 to 7): protobuf that begins so can be both.
ORT_FORMAT = b"ORTM"


def check_graph(content: bytes) -> None:
    """Look at every node, function and tensor of an ONNX file, without running any.

    Raises:
        Refuse: it is not ONNX (not_onnx), it reaches outside itself (custom_operator, external_data), or draws lots
            (random_operator).
        MemoryError: it is too large to be looked at here.
    """
    if content[4:8] == ORT_FORMAT:
        raise Refuse("not an ONNX file: onnxruntime would read it in its own format", reason="not_onnx")
    try:
        model = onnx.load_model_from_string(content)
    except DecodeError as error:
        if "alloc failed" in str(error):  # protobuf has no other exception for it
            raise MemoryError(str(error)) from error
        raise Refuse(f"not an ONNX file: {error}", reason="not_onnx") from error
    if not model.graph.node:
        raise Refuse("not an ONNX file: it has no graph", reason="not_onnx")
    for part in _parts(model):
        if isinstance(part, (onnx.NodeProto, onnx.FunctionProto, onnx.OperatorSetIdProto)):
            _check_domain(part.domain)
            if isinstance(part, onnx.NodeProto) and part.op_type in DRAWS_LOTS:
                raise Refuse(
                    f"the network draws lots: {part.op_type}",
                    reason="random_operator",
                    hint="Export it again as it answers, not as it is trained.",
                )
        elif isinstance(part, onnx.TensorProto) and _is_external(part):
            raise Refuse(
                f"the weights of {part.name!r} lie outside the ONNX file",
                reason="external_data",
                hint="Save it again with all weights in one file.",
            )


def _check_domain(domain: str) -> None:
    if domain not in STANDARD_DOMAINS:
        raise Refuse(
            f"the network uses operators of {domain!r}, not only standard ones",
            reason="custom_operator",
            hint="Export it again with ONNX's own operators.",
        )


def _is_external(tensor: Any) -> bool:
    return bool(tensor.data_location == onnx.TensorProto.EXTERNAL or tensor.external_data)


def _parts(message: Message) -> Iterator[Message]:
    """The message and all messages in it; protobuf has refused what is nested more than a hundred deep."""
    yield message
    for field, value in message.ListFields():
        if field.message_type is not None:
            for part in value if field.is_repeated else (value,):
                yield from _parts(part)
