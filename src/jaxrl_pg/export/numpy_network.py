"""The networks of an exported policy in NumPy: arrays by name in, features and heads out.

`bundle` puts this module and `numpy_policy` into one file, which needs NumPy alone.
"""

from __future__ import annotations

import itertools
import math
from typing import Any

import numpy as np

__all__ = ["Network"]


class Network:
    """Layers whose arrays go by their names, such as `torso/dense_0/kernel`.

    Attributes:
        layers: what policy.json says of them.
        tensors: the arrays.
        shapes: of each array of an observation, `""` for the only one.
    """

    def __init__(
        self, layers: dict[str, Any], tensors: dict[str, Any], shapes: dict[str, list[int]]
    ) -> None:
        """Take a description and its arrays."""
        self.layers, self.tensors, self.shapes = layers, tensors, shapes

    def head(
        self, at: str, seen: dict[str, Any], hidden: Any = None, action: Any = None
    ) -> tuple[Any, Any]:
        """Return the last layer's outputs `[N, out]`, and what a core remembers.

        Args:
            at: what the names of its arrays begin with.
            seen: each array of the observations `[N, ...]`, normalised.
            hidden: what the core remembers, `[N, size]`, a pair of these for an LSTM.
            action: real numbers `[N, A]` that the network reads besides.
        """
        x = self._torso(at, seen, action)
        if self.layers["core"] == "gru":
            hidden = x = self._gru(hidden, x)
        elif self.layers["core"] == "lstm":
            cell, last = hidden
            hidden = self._lstm(cell, last, x)
            x = hidden[1]
        return self._dense(f"{at}head", x), hidden

    def _torso(self, at: str, seen: dict[str, Any], action: Any = None) -> Any:
        """Return features `[N, F]`; images of bytes are divided by 255."""
        counter, flat = itertools.count(), []
        for name in sorted(seen):
            x, is_image = seen[name], len(self.shapes[name]) == 3
            scale = np.float32(255.0 if is_image and x.dtype == np.uint8 else 1.0)
            x = x.astype(np.float32) / scale
            x = self._convolved(f"{at}torso/", x, counter) if is_image else x
            flat.append(self.flatten(x))
        x = np.concatenate(flat if action is None else [*flat, action], axis=1)
        act = _ACTIVATIONS[self.layers["activation"]]
        for i in range(len(self.layers["hidden_sizes"])):
            y = self._dense(f"{at}torso/dense_{i}", x)
            if self.layers["layer_norm"]:
                y = self._layer_norm(f"{at}torso/layer_norm_{i}", y)
            sides = self.tensors[f"{at}torso/dense_{i}/kernel"].shape
            x = act(y) + x if self.layers["residual"] and sides[0] == sides[1] else act(y)
        return x

    def _convolved(self, at: str, x: Any, counter: Any) -> Any:
        """Return an image's features `[N, H, W, F]`; the counter numbers the layers of all."""
        layers = self.layers["convolutions"]
        if layers == "impala":
            return self._impala(f"{at}impala_{next(counter)}/", x)
        act = _ACTIVATIONS[self.layers["activation"]]
        for _, _, stride, padding in layers:
            x = act(self.conv(f"{at}conv_{next(counter)}", x, stride, padding))
        return x

    def _impala(self, at: str, x: Any) -> Any:
        """Three stages of a convolution, a pooling and two residual blocks (arXiv 1802.01561)."""
        for i in range(3):
            x = self.max_pool(self.conv(f"{at}conv_{i}", x, 1, 1))
            for j in (2 * i, 2 * i + 1):
                y = self.conv(f"{at}residual_{j}/conv_0", _relu(x), 1, 1)
                x = x + self.conv(f"{at}residual_{j}/conv_1", _relu(y), 1, 1)
        return _relu(x)

    def _dense(self, at: str, x: Any) -> Any:
        return x @ self.tensors[f"{at}/kernel"] + self.tensors[f"{at}/bias"][None]

    def _layer_norm(self, at: str, x: Any) -> Any:
        centred = x - np.mean(x, axis=-1, keepdims=True)
        deviation = np.sqrt(np.mean(centred * centred, axis=-1, keepdims=True) + np.float32(1e-6))
        scale, bias = (self.tensors[f"{at}/{name}"][None] for name in ("scale", "bias"))
        return centred / deviation * scale + bias

    def conv(self, at: str, x: Any, stride: int, padding: int) -> Any:
        """Return `[N, H', W', out]`: a product with the shifted images side by side."""
        kernel = self.tensors[f"{at}/kernel"]
        x = np.pad(x, ((0, 0), (padding, padding), (padding, padding), (0, 0)))
        height, width = ((n - kernel.shape[0]) // stride + 1 for n in x.shape[1:3])
        rows = [slice(i, i + stride * (height - 1) + 1, stride) for i in range(kernel.shape[0])]
        columns = [slice(j, j + stride * (width - 1) + 1, stride) for j in range(kernel.shape[1])]
        shifts = [x[:, i, j] for i in rows for j in columns]
        product = np.concatenate(shifts, axis=-1) @ kernel.reshape(-1, kernel.shape[-1])
        return product + self.tensors[f"{at}/bias"]

    def max_pool(self, x: Any) -> Any:
        """Return the largest of each 3x3 window at every second place, the sides rounded up."""
        size = [-(-n // 2) for n in x.shape[1:3]]
        room = [max(2 * (m - 1) + 3 - n, 0) for m, n in zip(size, x.shape[1:3], strict=True)]
        sides = [(r // 2, r - r // 2) for r in room]
        x = np.pad(x, ((0, 0), *sides, (0, 0)), constant_values=-np.inf)
        rows, columns = ([slice(i, i + 2 * m - 1, 2) for i in range(3)] for m in size)
        shifts = [x[:, i, j] for i in rows for j in columns]
        return np.max(np.stack(shifts), axis=0)

    def flatten(self, x: Any) -> Any:
        """Return `[N, ...]` as `[N, F]`."""
        return x.reshape(x.shape[0], -1)

    def _gru(self, h: Any, x: Any) -> Any:
        """Return the hidden state after `x` (Cho et al. 2014, arXiv 1406.1078)."""
        kernel = {name: self.tensors[f"core/{name}/kernel"] for name in ("hr", "hz")}
        r = _sigmoid(self._dense("core/ir", x) + h @ kernel["hr"])
        z = _sigmoid(self._dense("core/iz", x) + h @ kernel["hz"])
        n = np.tanh(self._dense("core/in", x) + r * self._dense("core/hn", h))
        return (np.float32(1.0) - z) * n + z * h

    def _lstm(self, c: Any, h: Any, x: Any) -> tuple[Any, Any]:
        """Return cell and hidden state after `x` (Hochreiter and Schmidhuber 1997)."""
        gates = {
            name: x @ self.tensors[f"core/i{name}/kernel"] + self._dense(f"core/h{name}", h)
            for name in "ifgo"
        }
        c = _sigmoid(gates["f"]) * c + _sigmoid(gates["i"]) * np.tanh(gates["g"])
        return c, _sigmoid(gates["o"]) * np.tanh(c)


def _relu(x: Any) -> Any:
    return np.maximum(x, np.float32(0.0))


def _sigmoid(x: Any) -> Any:
    return np.float32(0.5) * np.tanh(np.float32(0.5) * x) + np.float32(0.5)


def _gelu(x: Any) -> Any:
    inner = np.float32(math.sqrt(2.0 / math.pi)) * (x + np.float32(0.044715) * (x * x * x))
    return np.float32(0.5) * x * (np.float32(1.0) + np.tanh(inner))


_ACTIVATIONS: dict[str, Any] = {
    "tanh": np.tanh,
    "relu": _relu,
    "swish": lambda x: x * _sigmoid(x),
    "gelu": _gelu,
}
