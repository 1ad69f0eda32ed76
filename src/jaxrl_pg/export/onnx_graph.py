"""An ONNX graph, recorded while functions of NumPy compute on stand-ins for its inputs.

    graph = Graph({"kernel": kernel})
    y = np.tanh(graph.input("x", np.float32, [3]) @ kernel)
    graph.output("y", y)

NumPy hands its functions on to arrays of other types (NEP 13 and 18), so that what the exported
policy computes is written down once, in `numpy_policy`. Only what it uses is known here.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from onnx import checker, helper, numpy_helper

__all__ = ["Graph", "Value"]

_OPSET = 17  # of 2022, which all runtimes in use know
_IR_VERSION = 8
_UFUNCS = {
    "add": "Add",
    "bitwise_or": "Or",
    "divide": "Div",
    "equal": "Equal",
    "exp": "Exp",
    "floor_divide": "Div",  # of whole numbers, none of which is negative
    "invert": "Not",
    "log": "Log",
    "matmul": "MatMul",
    "maximum": "Max",
    "multiply": "Mul",
    "remainder": "Mod",
    "sqrt": "Sqrt",
    "subtract": "Sub",
    "tanh": "Tanh",
}


class Value(np.lib.mixins.NDArrayOperatorsMixin):
    """An array of the graph, with any number of rows.

    Attributes:
        graph: the graph that it is in.
        name: its name there.
        dtype: of its elements.
    """

    def __init__(self, graph: Graph, name: str, dtype: Any) -> None:
        """Name an array."""
        self.graph, self.name, self.dtype = graph, name, np.dtype(dtype)

    def __array_ufunc__(self, ufunc: Any, method: str, *inputs: Any, **options: Any) -> Value:
        """Record an elementwise function, or a product of matrices."""
        assert method == "__call__", ufunc
        assert not options, ufunc
        is_logical = ufunc.__name__ in ("bitwise_or", "equal", "invert")
        dtype = np.bool_ if is_logical else self.dtype
        return self.graph.node(_UFUNCS[ufunc.__name__], *self._alike(inputs), dtype=dtype)

    def __array_function__(self, func: Any, types: Any, args: Any, kwargs: Any) -> Value:
        """Record one of NumPy's functions."""
        return getattr(self, f"_{func.__name__}")(*args, **kwargs)

    def __getitem__(self, key: tuple[Any, ...]) -> Value:
        """Record slices, and axes that are added."""
        cuts = [(i, x) for i, x in enumerate(x for x in key if x is not None) if x != slice(None)]
        value = self
        for axis, cut in cuts:
            stop = np.iinfo(np.int64).max if cut.stop is None else cut.stop
            places = (np.array([x], np.int64) for x in (cut.start or 0, stop, axis))
            value = self.graph.node("Slice", value, *places)
        new = np.array([i for i, x in enumerate(key) if x is None], np.int64)
        return self.graph.node("Unsqueeze", value, new) if new.size else value

    def astype(self, dtype: Any) -> Value:
        """Record a conversion."""
        if self.dtype == np.dtype(dtype):
            return self
        to = helper.np_dtype_to_tensor_dtype(np.dtype(dtype))
        return self.graph.node("Cast", self, dtype=dtype, to=to)

    def reshape(self, *shape: int) -> Value:
        """Record another shape, in which -1 stands for the rest."""
        return self.graph.node("Reshape", self, np.array(shape, np.int64))

    def _alike(self, inputs: Any) -> list[Any]:
        """Give numbers and arrays the type of this one."""
        return [x if isinstance(x, Value) else np.asarray(x, self.dtype) for x in inputs]

    def _concatenate(self, values: Any, axis: int) -> Value:
        return self.graph.node("Concat", *values, dtype=self.dtype, axis=axis)

    def _stack(self, values: Any, axis: int) -> Value:
        where = np.array([axis], np.int64)
        return self._concatenate([self.graph.node("Unsqueeze", x, where) for x in values], axis)

    def _where(self, condition: Any, x: Any, y: Any) -> Value:
        dtype = next(v.dtype for v in (x, y) if isinstance(v, Value))
        both = (v if isinstance(v, Value) else np.asarray(v, dtype) for v in (x, y))
        return self.graph.node("Where", condition, *both, dtype=dtype)

    def _clip(self, x: Any, low: Any, high: Any) -> Value:
        low, high = self._alike((low, high))
        return self.graph.node("Min", self.graph.node("Max", x, low), high)

    def _sum(self, x: Any, axis: int, keepdims: bool = False) -> Value:
        return self.graph.node("ReduceSum", x, np.array([axis], np.int64), keepdims=int(keepdims))

    def _mean(self, x: Any, axis: int, keepdims: bool) -> Value:
        return self.graph.node("ReduceMean", x, axes=[axis], keepdims=int(keepdims))

    def _max(self, x: Any, axis: int, keepdims: bool) -> Value:
        return self.graph.node("ReduceMax", x, axes=[axis], keepdims=int(keepdims))

    def _any(self, x: Any, axis: int, keepdims: bool) -> Value:
        return self._max(x.astype(np.float32), axis, keepdims).astype(np.bool_)

    def _argmax(self, x: Any, axis: int) -> Value:
        return self.graph.node("ArgMax", x, dtype=np.int64, axis=axis, keepdims=0)


class Graph:
    """The graph while it is recorded."""

    def __init__(self, tensors: dict[str, np.ndarray]) -> None:
        """Remember arrays that are to keep their names, also where an axis is put before them."""
        self.tensors = {name: np.array(x) for name, x in tensors.items()}
        self._names = {id(x): name for name, x in self.tensors.items()}
        self._nodes: list[Any] = []
        self._constants: dict[str, np.ndarray] = {}
        self._inputs: list[Any] = []
        self._outputs: list[Any] = []

    def input(self, name: str, dtype: Any, shape: list[int]) -> Value:
        """Add an input `[num, *shape]`."""
        kind = helper.np_dtype_to_tensor_dtype(np.dtype(dtype))
        self._inputs.append(helper.make_tensor_value_info(name, kind, ["num", *shape]))
        return Value(self, name, dtype)

    def output(self, name: str, value: Value, shape: list[int]) -> None:
        """Add an output `[num, *shape]`."""
        self._nodes.append(helper.make_node("Identity", [value.name], [name]))
        kind = helper.np_dtype_to_tensor_dtype(value.dtype)
        self._outputs.append(helper.make_tensor_value_info(name, kind, ["num", *shape]))

    def node(self, kind: str, *inputs: Any, dtype: Any = None, **attributes: Any) -> Value:
        """Record an operation of ONNX; without `dtype` its result has that of the first input."""
        names = [x.name if isinstance(x, Value) else self._constant(x) for x in inputs]
        name = f"{kind.lower()}_{len(self._nodes)}"
        self._nodes.append(helper.make_node(kind, names, [name], **attributes))
        return Value(self, name, inputs[0].dtype if dtype is None else dtype)

    def serialized(self, notes: dict[str, str]) -> bytes:
        """Return the model, checked, as bytes.

        Args:
            notes: texts to keep in it by name.
        """
        constants = [numpy_helper.from_array(x, name) for name, x in self._constants.items()]
        graph = helper.make_graph(self._nodes, "policy", self._inputs, self._outputs, constants)
        opset = [helper.make_opsetid("", _OPSET)]
        model = helper.make_model(
            graph, opset_imports=opset, ir_version=_IR_VERSION, producer_name="jaxrl_pg"
        )
        helper.set_model_props(model, notes)
        checker.check_model(model, full_check=True)
        return bytes(model.SerializeToString())

    def _constant(self, x: np.ndarray) -> str:
        whole = x if x.base is None or x.base.size != x.size else x.base
        name = self._names.get(id(whole), f"constant_{len(self._constants)}")
        self._constants[name] = np.ascontiguousarray(x)
        return name
