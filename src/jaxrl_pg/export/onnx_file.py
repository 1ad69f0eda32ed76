"""A policy as an ONNX model: the most probable actions, for any number of observations.

Inputs are `obs`, or the names of a structured observation's arrays, and what a core remembers,
`hidden` (of an LSTM `hidden_c` and `hidden_h`). Outputs are `action` and, with a core, what it
remembers next under the same names with `next_` before them.
"""

from __future__ import annotations

from importlib.util import find_spec
from typing import Any

import numpy as np

from jaxrl_pg.export import numpy_network, numpy_policy

__all__ = ["require_possible", "serialized"]

Json = dict[str, Any]


def require_possible(missing: str | None) -> None:
    """Refuse ONNX where it is not installed, or a policy that it cannot hold.

    Args:
        missing: from `description.why_not`.

    Raises:
        ValueError: saying what to do.
    """
    if missing is not None:
        raise ValueError(f"onnx=True: {missing}")
    if find_spec("onnx") is None:
        raise ValueError('onnx=True needs onnx: install it with pip install "jaxrl-pg[onnx]"')


def serialized(document: Json, tensors: dict[str, np.ndarray]) -> bytes:
    """Return the bytes of the model.

    Args:
        document: the content of policy.json.
        tensors: of policy.safetensors.
    """
    from jaxrl_pg.export import onnx_graph

    graph = onnx_graph.Graph(tensors)
    policy = numpy_policy.Policy(document, graph.tensors)
    policy.network = _network(graph, policy.network)
    obs = {
        part["name"]: graph.input(part["name"] or "obs", np.dtype(part["dtype"]), part["shape"])
        for part in document["observation"]["parts"]
    }
    names = {None: (), "gru": ("hidden",), "lstm": ("hidden_c", "hidden_h")}
    of_core, size = names[document["network"]["core"]], document["network"]["core_size"]
    given = tuple(graph.input(name, np.float32, [size]) for name in of_core)
    action, after = policy.act(obs, None, given[0] if len(given) == 1 else given)
    parts = document["action"]
    shape = {"discrete": [], "multi_discrete": [len(parts.get("nvec", ()))]}.get(parts["kind"])
    graph.output("action", action, parts["shape"] if shape is None else shape)
    for name, value in zip(of_core, after if isinstance(after, tuple) else (after,), strict=True):
        graph.output(f"next_{name}", value, [size])
    return graph.serialized(
        {"agent": document["agent"], "env": document["env"]["name"], "format": document["format"]}
    )


def _network(graph: Any, plain: numpy_network.Network) -> numpy_network.Network:
    """Return the network with ONNX's own convolution and pooling."""

    class Recorded(numpy_network.Network):
        """Layers that are written down."""

        def conv(self, at: str, x: Any, stride: int, padding: int) -> Any:
            kernel = self.tensors[f"{at}/kernel"].transpose(3, 2, 0, 1)
            channels_first = graph.node("Transpose", x, perm=[0, 3, 1, 2])
            y = graph.node(
                "Conv",
                channels_first,
                kernel,
                self.tensors[f"{at}/bias"],
                strides=[stride] * 2,
                pads=[padding] * 4,
            )
            return graph.node("Transpose", y, perm=[0, 2, 3, 1])

        def max_pool(self, x: Any) -> Any:
            channels_first = graph.node("Transpose", x, perm=[0, 3, 1, 2])
            y = graph.node(
                "MaxPool",
                channels_first,
                kernel_shape=[3, 3],
                strides=[2, 2],
                auto_pad="SAME_UPPER",
            )
            return graph.node("Transpose", y, perm=[0, 2, 3, 1])

        def flatten(self, x: Any) -> Any:
            return graph.node("Flatten", x, axis=1)

    return Recorded(plain.layers, plain.tensors, plain.shapes)
