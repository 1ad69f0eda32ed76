"""What is no finite number any more: in the metrics, and where in the train state it comes from.

A diverged loss is only where trouble shows. It often begins in the environment, whose rewards and
observations are therefore looked at first. Nothing here runs while all is well, but for one
reduction on the device before each save.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxrl_pg.running.rows import Row
from jaxrl_pg.training.members import member
from jaxrl_pg.types import TrainState

__all__ = ["DivergedError", "Search", "diverged", "first_fault", "unsound_evaluation"]

Search = Callable[[int], str | None]
_SETTINGS = (
    "Likely causes: learning_rate too high, max_grad_norm too high, rewards too large "
    "(try normalize_reward) or observations too large (try normalize_obs)"
)


class DivergedError(FloatingPointError):
    """The loss, the gradient or the state is no longer finite."""


def diverged(
    rows: list[Row],
    number: int,
    name: str,
    last: str,
    state: TrainState[Any] | None = None,
    search: Search | None = None,
) -> DivergedError:
    """Return the error for a metric that is not finite.

    Args:
        rows: of the chunk.
        number: which of them it is in.
        name: the metric's.
        last: says where the last save is.
        state: after the chunk, to look for the cause in.
        search: from that number to what an environment gave that was not finite, in words.
    """
    row = rows[number]
    found = None if search is None else search(number)
    if found is None and state is not None:
        found = _of_environment(state)
    returns = (row for row in rows if row.get("train/episodes", 0) > 0)
    odd = [row for row in returns if not np.isfinite(row.get("train/return_mean", 0.0))]
    if found is None and odd:
        found = f"the return of an episode in iteration {odd[0]['iteration']} is no finite number"
    suspect = f"Suspect the environment first: {found}. " if found else ""
    where = f"{name} is {row[name]} in iteration {row['iteration']}"
    return DivergedError(f"{where}; {last}. {suspect}{_SETTINGS}")


def unsound_evaluation(row: Row) -> str | None:
    """Say in a line that a row holds an evaluation whose returns are not finite; None if not."""
    value = row.get("eval/return_mean", 0.0)
    if np.isfinite(value):
        return None
    return (
        f"the evaluation after iteration {row['iteration']} gave a return of {value}, though "
        "training is finite: an episode of the environment had a reward that is no finite number, "
        "or an observation"
    )


def first_fault(state: TrainState[Any]) -> str | None:
    """Say which part of a train state is not finite; None if all of it is.

    Looked at are the observations and returns of the environments, the learner, and the memory. An
    environment's own state may hold infinities by intention, as may a learner's scalars (the best
    value so far, say); in scalars only NaN is a fault.
    """
    if jnp.ndim(state.key) == 1:  # members: said of the first that has a fault
        each = enumerate(member(state, number) for number in range(len(state.key)))
        faults = ((number, first_fault(one)) for number, one in each)
        return next((f"member {number}: {fault}" for number, fault in faults if fault), None)
    found = _of_environment(state) or _of_tree(state.memory, "memory", _origin(state))
    return found or _of_tree(state.learner, "learner")


def _of_environment(state: TrainState[Any]) -> str | None:
    """Say which environment gave what is not finite, if one can be told."""
    looked_at = {
        "obs": "observation",
        "episode_return": "reward",
        "discounted_return": "reward",
    }
    for name, kind in looked_at.items():
        # Observations may be several arrays, each with a name.
        for path, leaf in jax.tree_util.tree_leaves_with_path(getattr(state.actor, name, None)):
            if _is_sound(leaf):
                continue
            what = kind + "".join(f" {getattr(entry, 'key', entry)!r}" for entry in path)
            values = np.asarray(leaf).reshape(len(leaf), -1)
            bad = np.flatnonzero(~np.isfinite(values).all(axis=1))
            if len(bad) == len(values) > 1:
                return f"the {what} of all {len(bad)} environments is no finite number"
            value = values[bad[0]][~np.isfinite(values[bad[0]])][0]
            others = f", and {len(bad) - 1} others are not finite" if len(bad) > 1 else ""
            return f"the {what} of environment {bad[0]} is {value}{others}"
    return None


def _of_tree(tree: Any, name: str, origin: Any = lambda row: "") -> str | None:
    leaves = jax.tree_util.tree_leaves_with_path(tree)
    sound = _sound([leaf for _, leaf in leaves])
    for (path, leaf), good in zip(leaves, sound, strict=True):
        if not good:
            values = np.asarray(leaf)
            place = np.argwhere(~np.isfinite(np.atleast_1d(values)))[0]
            value = np.atleast_1d(values)[tuple(place)]
            return f"{name}{jax.tree_util.keystr(path)} holds {value}{origin(int(place[0]))}"
    return None


def _origin(state: TrainState[Any]) -> Any:
    """From a row of a replay to the environment that it is from, in words."""

    def describe(row: int) -> str:
        devices = getattr(state.memory, "position", np.zeros(1)).shape[0]
        share = len(jax.tree.leaves(state.memory)[0]) // devices
        each = len(state.actor.episode_return) // devices
        written = np.asarray(getattr(state.memory, "size", np.full(devices, share)))
        if share % each and written[row // share] == share:  # the ring closes within a step
            return f" in row {row}"
        return f" in row {row}, from environment {row // share * each + row % share % each}"

    return describe


def _sound(leaves: list[Any]) -> list[bool]:
    """Say of each leaf whether it is as `first_fault` wants it; devices do so in one program."""
    on_device = [leaf for leaf in leaves if isinstance(leaf, jax.Array)]
    answers = iter(jax.device_get(_all_sound(on_device)))
    return [
        bool(next(answers) if isinstance(leaf, jax.Array) else _is_sound(leaf)) for leaf in leaves
    ]


def _is_sound(leaf: Any) -> Any:
    if not jnp.issubdtype(leaf.dtype, jnp.floating):
        return True
    return jnp.all(jnp.isfinite(leaf)) if leaf.ndim else ~jnp.isnan(leaf)


@jax.jit
def _all_sound(leaves: list[jax.Array]) -> list[Any]:
    return [_is_sound(leaf) for leaf in leaves]
