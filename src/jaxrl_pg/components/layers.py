"""Layers: from a batch of observations to the features that heads read.

Inside, a batch is a matrix of columns `[features, N]`. A weight's gradient is then the product of
two matrices that already lie in memory as a CPU wants them, which takes half the time
(docs/explanation/performance.md). Wide observations stay rows, since turning them would cost more
than it saves; the first layer makes columns of them.
"""

from __future__ import annotations

from typing import Literal, NamedTuple

import jax
import jax.numpy as jnp
from flax import linen as nn

from jaxrl_pg import precision
from jaxrl_pg.config import BaseConfig
from jaxrl_pg.types import ACTION_MASK, Obs

__all__ = [
    "Conv",
    "Dense",
    "LayerNorm",
    "Torso",
    "TorsoFields",
    "convolutions",
    "torso_fields",
]

_ACTIVATIONS = {"tanh": jnp.tanh, "relu": nn.relu, "swish": nn.swish, "gelu": nn.gelu}
_WIDEST_COLUMN = 128
_FEW_ROWS = 128  # those of a rollout, through which no gradient is taken
_NATURE = ((32, 8, 4), (64, 4, 2), (64, 3, 1))
_IMPALA = (16, 32, 32)


class TorsoFields(NamedTuple):
    """What a config says of the layers in front of every head; the fields of `Torso`."""

    hidden_sizes: tuple[int, ...]
    activation: str = "tanh"
    conv_features: int = 16
    conv_layers: tuple[tuple[int, ...], ...] = ()
    layer_norm: bool = False
    residual: bool = False
    cnn: str = "minatar"
    dtype: str = "float32"


def torso_fields(config: BaseConfig) -> TorsoFields:
    """Read off a config what is in front of every head."""
    return TorsoFields(*(getattr(config, name) for name in TorsoFields._fields))


def convolutions(fields: TorsoFields) -> tuple[tuple[int, ...], ...] | Literal["impala"]:
    """Return the convolutions that images pass, `(features, kernel[, stride[, padding]])` each."""
    if fields.conv_layers:
        return fields.conv_layers
    if fields.cnn == "impala":
        return "impala"
    one_layer = ((fields.conv_features, 3),) if fields.conv_features else ()
    return _NATURE if fields.cnn == "nature" else one_layer


class Dense(nn.Module):
    """`W^T x + b` on rows `[N, in] -> [N, out]` or on columns `[in, N] -> [out, N]`.

    Heads are float32, whatever the features that they read are.

    With `turns` rows become columns, `[N, in] -> [out, N]`. Turned for that is the kernel, or with
    few rows the product, behind an optimisation barrier: so in the product, and in the gradient of
    a turned kernel, XLA on a CPU contracts the last axis of the left operand. Where it contracts
    the first one, which it would do without a barrier, products take up to twice as long.
    """

    features: int
    columns: bool
    dtype: str = "float32"
    turns: bool = False

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        """Return the layer's output."""
        zeros = nn.initializers.zeros_init()
        width = x.shape[0 if self.columns and not self.turns else 1]
        kernel = self.param("kernel", zeros, (width, self.features))
        bias = self.param("bias", zeros, (self.features,))
        x, kernel, bias = precision.cast(self.dtype, x, kernel, bias)
        if not self.columns:
            return x @ kernel + bias[None]
        if not self.turns:
            return kernel.T @ x + bias[:, None]
        num = x.shape[0]  # a symbol where a policy is exported for any number of rows
        if isinstance(num, int) and num < _FEW_ROWS:
            return jax.lax.optimization_barrier(x @ kernel).T + bias[:, None]
        turned = jax.lax.optimization_barrier(kernel.T)
        return jax.lax.dot_general(turned, x, (((1,), (1,)), ((), ()))) + bias[:, None]


class Conv(nn.Module):
    """A convolution `[N, H, W, C] -> [N, H', W', features]` with square kernels.

    Written as one product with the shifted images side by side; XLA's own convolution takes four
    times as long to differentiate on a CPU.
    """

    features: int
    kernel_size: int
    stride: int = 1
    padding: int = 0
    dtype: str = "float32"

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        """Return the layer's output."""
        (x,) = precision.cast(self.dtype, x)
        size, stride, pad = self.kernel_size, self.stride, (self.padding, self.padding)
        x = jnp.pad(x, ((0, 0), pad, pad, (0, 0))) if self.padding else x
        height, width = ((n - size) // stride + 1 for n in x.shape[1:3])
        if height < 1 or width < 1:
            raise ValueError(
                f"a convolution of {size}x{size} does not fit an image of "
                f"{x.shape[1]}x{x.shape[2]}: give conv_layers with smaller kernels or with "
                "padding, or none and conv_features=0, which flattens images"
            )
        rows = [slice(i, i + stride * (height - 1) + 1, stride) for i in range(size)]
        columns = [slice(j, j + stride * (width - 1) + 1, stride) for j in range(size)]
        shifts = [x[:, i, j] for i in rows for j in columns]
        patches = jnp.concatenate(shifts, axis=-1).reshape(-1, size * size * x.shape[3])
        zeros = nn.initializers.zeros_init()
        kernel = self.param("kernel", zeros, (size, size, x.shape[3], self.features))
        bias = self.param("bias", zeros, (self.features,))
        kernel, bias = precision.cast(self.dtype, kernel, bias)
        product = patches @ kernel.reshape(-1, self.features)
        return (product + bias[None]).reshape(-1, height, width, self.features)


class LayerNorm(nn.Module):
    """Layer normalisation (Ba et al. 2016) of each sample's features, in rows or columns.

    Means and deviations are float32, whatever the features are.
    """

    columns: bool
    dtype: str = "float32"

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        """Return features of mean 0 and standard deviation 1, scaled and shifted."""
        axis = 0 if self.columns else 1
        shape = (x.shape[axis],)
        scale = self.param("scale", nn.initializers.ones_init(), shape)
        bias = self.param("bias", nn.initializers.zeros_init(), shape)
        x = precision.widened(x)
        centred = x - jnp.mean(x, axis=axis, keepdims=True)
        deviation = jnp.sqrt(jnp.mean(jnp.square(centred), axis=axis, keepdims=True) + 1e-6)
        scale, bias = (jnp.expand_dims(p, 1 - axis) for p in (scale, bias))
        return precision.cast(self.dtype, centred / deviation * scale + bias)[0]


class Residual(nn.Module):
    """Two convolutions of 3x3 filters, each after a ReLU, and what went into them added."""

    features: int
    dtype: str = "float32"

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        """Return `[N, H, W, features]` for the same."""
        y = Conv(self.features, 3, 1, 1, self.dtype)(nn.relu(x))
        return x + Conv(self.features, 3, 1, 1, self.dtype)(nn.relu(y))


class Impala(nn.Module):
    """The small residual stack of Espeholt et al. 2018 (arXiv 1802.01561, figure 3).

    Three stages of a convolution, a pooling that halves the image, and two residual blocks: 15
    convolutions of 3x3 filters, with ReLU whatever the other layers have.
    """

    dtype: str = "float32"

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        """Return `[N, H / 8, W / 8, 32]`, sides rounded up."""
        for features in _IMPALA:
            x = Conv(features, 3, 1, 1, self.dtype)(x)
            x = nn.max_pool(x, (3, 3), (2, 2), "SAME")
            for _ in range(2):
                x = Residual(features, self.dtype)(x)
        return nn.relu(x)


class Torso(nn.Module):
    """Observations `[N, ...]` to features, `[N, hidden]` or in columns `[hidden, N]`.

    Images (three axes) pass convolutions first, and those of bytes are divided by 255. The arrays
    of a structured observation do so each for itself; flattened, they are joined in the order of
    their names, without the mask. Actions `[N, A]`, where given, are appended to them.

    Attributes:
        columns: lay features out in columns.
        hidden_sizes: widths of the layers.
        activation: a name in `_ACTIVATIONS`.
        conv_features: filters of the one convolution of `minatar`, 0 for none.
        conv_layers: `(features, kernel, stride, padding)` of each convolution, instead of those
            that `cnn` names; the last two may be left out.
        layer_norm: normalise each layer's features before the activation.
        residual: add a layer's input to its output where both are equally wide.
        cnn: `minatar`, one convolution of 3x3 filters (Young and Tian 2019, arXiv 1903.03176);
            `nature`, the three of Mnih et al. 2015 (doi 10.1038/nature14236); or `impala`.
        dtype: that layers compute in, and of the features; parameters are float32 in any case.
    """

    columns: bool
    hidden_sizes: tuple[int, ...]
    activation: str
    conv_features: int = 16
    conv_layers: tuple[tuple[int, ...], ...] = ()
    layer_norm: bool = False
    residual: bool = False
    cnn: str = "minatar"
    dtype: str = "float32"

    @nn.compact
    def __call__(self, obs: Obs, action: jax.Array | None = None) -> jax.Array:
        """Return features."""
        act = _ACTIVATIONS[self.activation]
        stack = convolutions(TorsoFields(*(getattr(self, name) for name in TorsoFields._fields)))

        def flat(x: jax.Array) -> jax.Array:
            is_image = x.ndim == 4
            scale = 255.0 if is_image and x.dtype == jnp.uint8 else None
            x = x.astype(jnp.float32)
            x = x if scale is None else x / scale
            if is_image and isinstance(stack, str):
                x = Impala(self.dtype)(x)
            else:
                for layer in () if not is_image or isinstance(stack, str) else stack:
                    features, size, stride, padding = (*layer, *(1, 0)[len(layer) - 2 :])
                    x = act(Conv(features, size, stride, padding, self.dtype)(x))
            return x.reshape(x.shape[0], -1)

        if isinstance(obs, dict):
            names = [name for name in sorted(obs) if name != ACTION_MASK]
            x = jnp.concatenate([flat(obs[name]) for name in names], axis=1)
        else:
            x = flat(obs)
        x = x if action is None else jnp.concatenate([x, action], axis=1)
        (x,) = precision.cast(self.dtype, x)
        is_turned = not self.columns
        if self.columns and (x.shape[1] <= _WIDEST_COLUMN or not self.hidden_sizes):
            # Turned here and not, with the gradients, inside every product with a weight.
            x, is_turned = jax.lax.optimization_barrier(x.T), True
        for size in self.hidden_sizes:
            y = Dense(size, self.columns, self.dtype, turns=not is_turned)(x)
            y = act(LayerNorm(self.columns, self.dtype)(y) if self.layer_norm else y)
            if self.residual and x.size == y.size:
                y = y + (x if is_turned else x.T)
            x, is_turned = y, True
        return x
