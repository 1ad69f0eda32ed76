"""Steps of agents as compiled functions."""

import jax

from jaxrl_pg.components import on_policy


def compiled(step, build=on_policy.build):
    """Compile `step(config, model, ...)` as a function `(config, ...)` that makes the model."""
    return jax.jit(lambda config, *args: step(config, build(config), *args))
