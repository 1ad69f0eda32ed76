"""What is asked of every library: the facts of `peers.py`, and the settings they are found with."""

from collections.abc import Callable
from functools import partial
from importlib.metadata import version
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

import probes

Facts = dict[str, Callable[[], Any]]
Pair = tuple[Any, Any]
OBS = jnp.eye(probes.PLACES)
NUM_ENVS, NUM_STEPS = 32, 32
ITERATION = NUM_ENVS * NUM_STEPS  # 32 is no multiple of 3: an iteration ends within episodes
LONG, SHORT = 100 * ITERATION, 4 * ITERATION
RATE = 3e-3
# The settings of PPO under the names that most libraries have for them.
SETTINGS = {
    "num_envs": NUM_ENVS,
    "num_steps": NUM_STEPS,
    "num_minibatches": 4,
    "num_epochs": 4,
    "gamma": probes.DISCOUNT,
}


class Step(NamedTuple):
    """What 8 environments show of a step; `truncated` is None where one flag stands for both."""

    obs: Any
    terminated: Any
    truncated: Any = None


class Ring(NamedTuple):
    """The ring as one kind of environment that a library trains on.

    Attributes:
        values: trains for `LONG` steps and gives the critic's values `[6]` of the places. With
            True, the third step also ends an episode by the ring's own rule.
        play: gives `reset`, `key -> state`, and `step`, `(key, state) -> (state, Step)`, of 8
            environments with automatic resets.
    """

    values: Callable[[bool], Any]
    play: Callable[[], tuple[Callable[..., Any], Callable[..., Any]]]


def facts(
    packages: tuple[str, ...],
    rings: dict[str, Ring],
    resumed: Callable[[], Pair],
    seeds: Callable[[], Pair],
    rates: Callable[[], Pair],
) -> Facts:
    """All facts of a library, to be found when they are called.

    Args:
        packages: the distributions whose versions matter beside JAX's.
        rings: by what their facts are called after: "" or ", brax".
        resumed: trained weights of a whole run, and of one that was stopped and resumed.
        seeds: weights of a seed alone, and of the same seed beside another in one program.
        rates: the same for a learning rate.
    """
    of_rings = {
        "at the limit": flags,
        "after the last step": lambda ring: probes.meaning(ring.values(False)),
        "termination at the limit": lambda ring: probes.meaning(ring.values(True)),
        "different starts": starts,
    }
    of_weights = {"resume": resumed, "seeds": seeds, "learning rates": rates}
    return {
        "versions": lambda: ", ".join(f"{name} {version(name)}" for name in (*packages, "jax")),
        **{
            fact + kind: partial(find, ring)
            for fact, find in of_rings.items()
            for kind, ring in rings.items()
        },
        **{fact: partial(compared, weights) for fact, weights in of_weights.items()},
    }


def flags(ring: Ring) -> str:
    """How the third step, the last one before the limit, is marked."""
    reset, step = ring.play()
    state, seen = reset(jax.random.PRNGKey(0)), None
    for key in jax.random.split(jax.random.PRNGKey(1), probes.LIMIT):
        state, seen = step(key, state)
    if seen.truncated is None:
        return f"one flag for both: done {bool(seen.terminated.all())}"
    return f"truncated {bool(seen.truncated.all())}, terminated {bool(seen.terminated.any())}"


def starts(ring: Ring) -> str:
    """Whether the episodes of one environment begin at both starts."""
    reset, step = ring.play()
    state, places = reset(jax.random.PRNGKey(0)), [set() for _ in range(8)]
    step = jax.jit(step)
    for key in jax.random.split(jax.random.PRNGKey(1), 60):
        state, seen = step(key, state)
        cut = False if seen.truncated is None else seen.truncated
        for i in np.flatnonzero(np.asarray(seen.terminated | cut)):
            places[i].add(int(np.argmax(seen.obs[i])))
    both = sum(found == {0, 3} for found in places)
    return f"{'yes' if both == 8 else 'no'} ({both} of 8 environments)"


def compared(weights: Callable[[], Pair]) -> str:
    """How far the weights are apart."""
    pairs = zip(*map(jax.tree.leaves, weights()), strict=True)
    far = max(float(np.max(np.abs(np.asarray(x) - np.asarray(y)))) for x, y in pairs)
    return "bit for bit" if far == 0 else f"differs by {far:.1g}"


def beside_another(train: Callable[[Any], Any], members: Any, alone: Any) -> Pair:
    """Weights of `alone`, and of the same as the second of two `members` in one program."""
    many = jax.vmap(train)(members)
    return train(alone), jax.tree.map(lambda x: x[1], many)


def two_rates(train: Callable[[Any], Any]) -> Pair:
    """A learning rate alone, and beside a smaller one."""
    return beside_another(train, jnp.array([1e-4, 1e-3]), 1e-3)
