"""Train states of the right shapes, made without compiling anything."""

import jax
import numpy as np

import jaxrl_pg


def state_of(config, **given):
    """A config's train state of zeros; `given` replaces parts of it."""
    key = jax.random.key(0)
    shapes = jax.eval_shape(jaxrl_pg.init, config, key)
    zeros = jax.tree.map(lambda x: np.zeros(x.shape, x.dtype), shapes._replace(key=()))
    return zeros._replace(**{"key": key, **given})
