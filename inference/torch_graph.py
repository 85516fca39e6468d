"""A torch network as one file that runs no code of its maker's: safetensors, and in its header the graph.

    write   module -> torch.export -> core ATen operators -> JSON        ┐
                                      weights ───────────────────────────┴> safetensors
    read    safetensors -> every operator looked up in OPERATORS -> a list of calls, made one after the other

torch.export's own file is not used: `torch.export.load` unpickles what the file holds, with weights_only=False where
True fails, and evaluates its symbolic shapes as Python. What is left of a graph after export is a list of calls, and a
list of calls is JSON. What may be called is whole-number arithmetic on the number of images, and of core ATen
(https://pytorch.org/docs/stable/torch.compiler_ir.html) what OPERATORS names: what a network needs to answer. It knows
neither files nor processes, and stays within the tensors that it is given. No source is made of it either, as torch.fx
would.
"""

import json
import operator
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load as load_tensors
from safetensors.torch import save as save_tensors
from torch import Tensor, fx, nn  # fx: what torch.export gives; nothing is run by it

from domain.errors import Refuse

GRAPH = "collimator.graph"  # the key in safetensors' metadata
MAX_HEADER_BYTES = 64 << 20
MAX_NODES = 100_000
MOST_IMAGES = 4096
# Left out of core ATen: what trains (some of it writes wherever an index from the file says), writes by an index, gives
# out memory as it lies there, draws lots, or makes shapes of what the image shows.
_NAMED = """
_log_softmax _softmax _to_copy abs acos acosh add addmm alias amax amin any arange argmax argmin as_strided asin
asinh atan atan2 atanh bitwise_and bitwise_not bitwise_or bitwise_xor bmm cat ceil clamp clone constant_pad_nd
convolution copy cos cosh cumsum diagonal div elu embedding eq erf exp expand expm1 fill flip floor fmod full
full_like gather ge gelu gt hardtanh index index_select isinf isnan le leaky_relu log log10 log1p log2
logical_and logical_not logical_or logical_xor lt max maximum mean min minimum mm mul native_group_norm
native_layer_norm ne neg permute pow prod reciprocal relu remainder repeat round rsqrt scalar_tensor select
select_scatter sigmoid sign sin sinh slice slice_scatter sort split_with_sizes sqrt squeeze sub sum sym_numel
sym_size tan tanh topk trunc unsqueeze var view where
_adaptive_avg_pool2d _adaptive_avg_pool3d avg_pool2d avg_pool3d max_pool2d_with_indices max_pool3d_with_indices
reflection_pad1d reflection_pad2d reflection_pad3d replication_pad2d replication_pad3d
upsample_bilinear2d upsample_nearest2d
_native_batch_norm_legit _native_batch_norm_legit_no_training
"""
OPERATORS = frozenset(_NAMED.split())
ARITHMETIC = {one.__name__: one for one in (operator.add, operator.sub, operator.mul, operator.floordiv, operator.mod)}
CALLS: Mapping[str, Callable[..., Any]] = {"getitem": operator.getitem, **ARITHMETIC}
_PLACES = frozenset({"device", "layout", "pin_memory"})
DTYPES = {str(one): one for one in (torch.float32, torch.float16, torch.bfloat16, torch.int64, torch.int32, torch.bool)}
MEMORY_FORMATS = {str(one): one for one in (torch.contiguous_format, torch.preserve_format, torch.channels_last)}
WORDS: Mapping[str, Any] = {**DTYPES, **MEMORY_FORMATS}


def write(network: nn.Module, example: Tensor, outputs: Sequence[str]) -> bytes:
    """The network as `read` reads it, for any number of images.

    Args:
        example: (2 or more, channels, S, S) float32.
        outputs: a name for each tensor that the network gives, all of them (images, …).

    Raises:
        Refuse: it needs an operator that OPERATORS does not name (custom_operator).
    """
    images = torch.export.Dim("images", min=1, max=MOST_IMAGES)
    program = torch.export.export(network.eval(), (example,), dynamic_shapes=({0: images},)).run_decompositions()
    signature = program.graph_signature
    names = {**signature.inputs_to_parameters, **signature.inputs_to_buffers}
    names |= signature.inputs_to_lifted_tensor_constants
    nodes = [_plain(node) for node in program.graph.nodes if node.op == "call_function"]
    # A copy of each: safetensors refuses tensors that share memory.
    tensors = {place: _tensor(program, name).detach().contiguous().clone() for place, name in names.items()}
    used = {name for node in nodes for name in _needs(node)}
    given = dict(zip(outputs, signature.user_outputs, strict=True))
    graph = {"input": signature.user_inputs[0], "nodes": nodes, "outputs": given}
    kept = {place: tensor for place, tensor in tensors.items() if place in used | set(given.values())}
    return bytes(save_tensors(kept, metadata={GRAPH: json.dumps(graph, sort_keys=True)}))


def read(content: bytes) -> "Calls":
    """The network, on the CPU.

    Raises:
        Refuse: it is no such file (not_a_torch_graph), or calls something else than OPERATORS (custom_operator).
    """
    try:
        return Calls(_graph(content), load_tensors(content))
    except (KeyError, TypeError, ValueError, AttributeError, SafetensorError, RecursionError) as error:
        raise Refuse(
            f"not a network that inference/torch_graph.py wrote: {type(error).__name__}: {error}"[:300],
            reason="not_a_torch_graph",
        ) from error


class Calls(nn.Module):
    """Takes (images, channels, S, S) float32 and gives tensors by their names."""

    def __init__(self, graph: Mapping[str, Any], tensors: Mapping[str, Tensor]) -> None:
        super().__init__()
        self._places = {name: f"weight_{number}" for number, name in enumerate(sorted(tensors))}
        for name, tensor in tensors.items():
            self.register_buffer(self._places[name], tensor)
        self._input = str(graph["input"])
        self._outputs = {str(name): str(made) for name, made in graph["outputs"].items()}
        self._calls = [_Call(node) for node in graph["nodes"]]
        self._forget_early()

    def forward(self, image: Tensor) -> dict[str, Tensor]:
        made: dict[str, Any] = {name: getattr(self, place) for name, place in self._places.items()}
        made[self._input] = image
        for call in self._calls:
            made[call.name] = call(made, image.device)
            for name in call.frees:
                del made[name]
        outputs = {name: made[place] for name, place in self._outputs.items()}
        if other := [name for name, output in outputs.items() if not isinstance(output, Tensor)]:
            raise TypeError(f"the outputs {other} are no tensors")
        return outputs

    def _forget_early(self) -> None:
        """Let go of each tensor after the last call that needs it; and notice a name that nothing has made."""
        known = {self._input, *self._places}
        for call in self._calls:
            if missing := call.needs - known:
                raise ValueError(f"{call.name} needs {sorted(missing)}, which nothing has made")
            known.add(call.name)
        kept = set(self._outputs.values())
        if not kept <= known:
            raise ValueError(f"nothing makes the outputs {sorted(kept - known)}")
        for call in reversed(self._calls):
            call.frees = tuple(call.needs - kept)
            kept |= call.needs


class _Call:
    def __init__(self, node: Mapping[str, Any]) -> None:
        self.name = str(node["name"])
        self._run = operator_named(str(node["call"]))
        self._args: list[Any] = list(node["args"])
        self._kwargs: dict[str, Any] = dict(node["kwargs"])
        self.needs = _needs(node)
        self.frees: tuple[str, ...] = ()
        schema = getattr(self._run, "_schema", None)
        self._makes_tensor = schema is not None and any(one.name == "device" for one in schema.arguments)

    def __call__(self, made: Mapping[str, Any], device: torch.device) -> Any:
        kwargs = {key: _value(one, made) for key, one in self._kwargs.items()}
        if self._makes_tensor:
            kwargs["device"] = device
        return self._run(*(_value(one, made) for one in self._args), **kwargs)


def operator_named(name: str) -> Callable[..., Any]:
    """What a node calls.

    Raises:
        Refuse: it is neither arithmetic nor a pure operator of OPERATORS (custom_operator).
    """
    if name in CALLS:
        return CALLS[name]
    space, _, rest = name.partition(".")
    packet, _, overload = rest.partition(".")
    found = None
    if space == "aten" and packet in OPERATORS and overload.isidentifier():
        found = getattr(getattr(torch.ops.aten, packet, None), overload, None)
    if not isinstance(found, torch._ops.OpOverload) or not _is_pure(found):
        raise Refuse(
            f"the network calls {name[:80]!r}, which is none of the operators that may be called",
            reason="custom_operator",
            hint="inference/torch_graph.py names them. Export it again without this one, or bring it as ONNX.",
        )
    return CHECKED.get(name, found)


def _is_pure(found: "torch._ops.OpOverload[..., Any]") -> bool:
    """Of an operator's forms, neither the one that changes its input nor one that draws lots."""
    is_fixed = torch.Tag.nondeterministic_seeded not in found.tags and not found._schema.is_mutable
    return torch.Tag.core in found.tags and is_fixed


def _batch_norm(
    input: Tensor,
    weight: Tensor | None,
    bias: Tensor | None,
    running_mean: Tensor,
    running_var: Tensor,
    momentum: float,
    eps: float,
) -> Any:
    _require_one_a_channel(input, weight, bias, running_mean, running_var)
    return torch.ops.aten._native_batch_norm_legit_no_training.default(
        input, weight, bias, running_mean, running_var, momentum, eps
    )


def _instance_norm(
    input: Tensor, weight: Tensor | None, bias: Tensor | None, training: bool, momentum: float, eps: float
) -> Any:
    _require_one_a_channel(input, weight, bias)
    if training is not True:
        raise ValueError("a normalisation has neither statistics of its own nor those of the image")
    return torch.ops.aten._native_batch_norm_legit.no_stats(input, weight, bias, training, momentum, eps)


def _require_one_a_channel(input: Tensor, *vectors: Tensor | None) -> None:
    """Below its modules torch does not ask, and reads on behind the end of one that is too short."""
    for vector in vectors:
        if vector is not None and vector.shape != input.shape[1:2]:
            raise ValueError(f"a normalisation of {tuple(input.shape)} has a vector of {tuple(vector.shape)}")


CHECKED: Mapping[str, Callable[..., Any]] = {
    "aten._native_batch_norm_legit_no_training.default": _batch_norm,
    "aten._native_batch_norm_legit.no_stats": _instance_norm,
}


def _tensor(program: torch.export.ExportedProgram, name: str) -> Tensor:
    tensor = program.state_dict[name] if name in program.state_dict else program.constants[name]
    assert isinstance(tensor, Tensor)
    return tensor


def _plain(node: fx.Node) -> dict[str, Any]:
    called = node.target
    name = called.__name__ if called in CALLS.values() else str(called)  # type: ignore[union-attr]
    operator_named(name)
    # Where a tensor is made, it is made where the network's own are; that is said when it is read.
    kwargs = {key: _plain_value(value) for key, value in node.kwargs.items() if key not in _PLACES}
    return {"name": node.name, "call": name, "args": _plain_value(list(node.args)), "kwargs": kwargs}


def _plain_value(value: Any) -> Any:
    """JSON: `{"node": …}` is what another node gave, `{"word": …}` a dtype or a memory format."""
    if isinstance(value, fx.Node):
        return {"node": value.name}
    if isinstance(value, (list, tuple)):
        return [_plain_value(one) for one in value]
    if str(value) in WORDS and not isinstance(value, str):
        return {"word": str(value)}
    if isinstance(value, float) and value in (float("inf"), float("-inf")):
        return {"infinite": value > 0}
    if value is None or isinstance(value, (bool, int, float, str)):
        return value
    raise Refuse(f"a value of type {type(value).__name__} cannot be written", reason="custom_operator")


def _needs(node: Mapping[str, Any]) -> set[str]:
    return _references([*node["args"], *node["kwargs"].values()])


def _references(value: Any) -> set[str]:
    """The names of all nodes in it.

    Raises:
        ValueError: it holds something else than `_plain_value` writes.
    """
    if isinstance(value, list):
        return {name for one in value for name in _references(one)}
    if not isinstance(value, dict):
        return set()
    ((kind, content),) = value.items()
    if kind not in ("node", "infinite", "word") or (kind == "word" and content not in WORDS):
        raise ValueError(f"{str(value)[:80]} is no value of a network")
    return {str(content)} if kind == "node" else set()


def _graph(content: bytes) -> dict[str, Any]:
    """The header's own JSON: safetensors' Python gives metadata of files only, and these are bytes that were hashed."""
    size = int.from_bytes(content[:8], "little")
    if not 0 < size <= min(MAX_HEADER_BYTES, len(content)):
        raise ValueError("it has no header")
    graph = json.loads(json.loads(content[8 : 8 + size])["__metadata__"][GRAPH])
    if len(graph["nodes"]) > MAX_NODES:
        raise ValueError(f"it has {len(graph['nodes'])} nodes; {MAX_NODES} are read")
    return dict(graph)


def _value(plain: Any, made: Mapping[str, Any]) -> Any:
    if isinstance(plain, list):
        return [_value(one, made) for one in plain]
    if not isinstance(plain, dict):
        return plain
    ((kind, value),) = plain.items()
    if kind == "infinite":
        return float("inf" if value else "-inf")
    return made[value] if kind == "node" else WORDS[value]
