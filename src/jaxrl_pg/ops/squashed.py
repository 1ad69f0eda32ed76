"""Raw actions out of a policy's distribution: logits of a finite set, or a normal before tanh."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp

from jaxrl_pg.ops import distributions, full_normal

__all__ = ["mode", "sample"]


def sample(params: Any, noise: jax.Array) -> jax.Array:
    """Actions made of noise.

    Args:
        params: logits `[N, A]`, a `Normal` or a `FullNormal` of `[N, A]`.
        noise: of that family, `[N, A]`.

    Returns:
        `[N]` int32, or `[N, A]` within [-1, 1].
    """
    if isinstance(params, distributions.Normal):
        return distributions.tanh_normal_sample(params, noise)[0]
    if isinstance(params, full_normal.FullNormal):
        return jnp.tanh(full_normal.FULL_NORMAL.sample(params, noise))
    return distributions.CATEGORICAL.sample(params, noise)


def mode(params: Any) -> jax.Array:
    """The likeliest actions, or tanh of the mean; `params` and the result are those of `sample`."""
    if isinstance(params, jax.Array):
        return distributions.CATEGORICAL.mode(params)
    return jnp.tanh(params.mean)
