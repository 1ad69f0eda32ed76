"""What the arguments of the theory's functions have to be: one row a name, and the checks.

A shape is a string: every letter is a size, and the same letter is the same size in all arguments
of a call; a digit is that size; `"...A"` leaves the axes before the last one open.

Rows of float32 may miss 1 by 1e-5 and rows of float64 by 1e-6, so that those of a network in
float32 still pass when they have been written into float64.
"""

from __future__ import annotations

import math
import numbers
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import jax.numpy as jnp
import numpy as np

__all__ = [
    "ARGUMENTS",
    "Argument",
    "check_mdp",
    "count",
    "finite",
    "function",
    "indices",
    "joint_log",
    "log_rows",
    "logits_of",
    "number",
    "require",
    "rows",
    "unchecked",
]


class Argument(NamedTuple):
    """What an argument has to be.

    Attributes:
        check: `(name, array) -> None`, raises for values that are not allowed.
        shape: a letter or digit for each axis, or None where any shape will do.
        array: whether it is cast to the common precision.
    """

    check: Callable[[str, Any], None]
    shape: str | None = None
    array: bool = True


# --- what there is --------------------------------------------------------------------------------


def rows(shape: str = "SA") -> Argument:
    """Distributions along the last axis."""
    return Argument(_check_rows, shape)


def log_rows(shape: str = "SA") -> Argument:
    """Logarithms of distributions along the last axis; -inf is a probability of 0."""
    return Argument(_check_log_rows, shape)


def joint_log(shape: str = "SA") -> Argument:
    """Logarithms of one distribution along all axes."""
    return Argument(lambda name, value: _check_log_rows(name, np.ravel(value)), shape)


def logits_of(shape: str = "SA", everywhere: bool = False) -> Argument:
    """Logits along the last axis: -inf, where not `everywhere` finite, is a probability of 0."""
    return finite(shape) if everywhere else Argument(_check_logits, shape)


def finite(shape: str | None = None) -> Argument:
    """Finite numbers."""
    return Argument(_check_finite, shape)


def number(low: float, high: float = math.inf, without: str = "") -> Argument:
    """Numbers from `low` to `high`; `without` names the ends that do not belong: "low high".

    An infinite end never belongs.
    """
    low_open, high_open = "low" in without, "high" in without or math.isinf(high)
    interval = f"{'(' if low_open else '['}{low:g}, {high:g}{')' if high_open else ']'}"

    def check(name: str, value: Any) -> None:
        x = _numbers(name, value)
        inside = (x > low if low_open else x >= low) & (x < high if high_open else x <= high)
        require(bool(np.all(inside)), f"{name} is {_first(x, ~inside):g}: give one in {interval}")

    return Argument(check)


def count(least: int = 1) -> Argument:
    """A whole number, static unless traced."""

    def check(name: str, value: Any) -> None:
        whole = isinstance(value, numbers.Integral) and not isinstance(value, bool)
        whole = whole or (np.ndim(value) == 0 and np.asarray(value).dtype.kind in "iu")
        fits = whole and int(value) >= least
        require(fits, f"{name} is {value!r}: give a whole number, at least {least}")

    return Argument(check, array=False)


def indices(shape: str) -> Argument:
    """Whole numbers from 0."""
    return Argument(_check_indices, shape, array=False)


def function(hint: str) -> Argument:
    """Something to call."""

    def check(name: str, value: Any) -> None:
        require(callable(value), f"{name} is {value!r}: give a function, {hint}")

    return Argument(check, array=False)


def unchecked() -> Argument:
    """Something of our own making, or that anything can be."""
    return Argument(lambda name, value: None, array=False)


def check_mdp(mdp: Any, with_one: bool = False) -> None:
    """Raise for values of an MDP that is none; its shapes are compared before."""
    _check_finite("reward", mdp.reward)
    _check_rows("start", mdp.start)
    _check_rows("transition", mdp.transition)
    number(0.0, 1.0, "" if with_one else "high").check("gamma", mdp.gamma)


def require(condition: bool, line: str) -> None:
    """Raise a ValueError of one line unless the condition holds."""
    if not condition:
        raise ValueError(line)


# --- values ---------------------------------------------------------------------------------------


def _numbers(name: str, value: Any) -> np.ndarray:
    """Return the value as an array of numbers."""
    array = np.asarray(value)
    require(array.dtype.kind in "fiub" or array.dtype == jnp.bfloat16, f"{name} is no number")
    return array


def _first(x: np.ndarray, where: np.ndarray) -> float:
    """Return the first of the numbers at which something is wrong."""
    return float(x[where].ravel()[0]) if np.any(where) else 0.0


def _check_finite(name: str, value: Any) -> None:
    x = _numbers(name, value)
    good = np.isfinite(x)
    if not np.all(good):
        what = f"{name} has an entry {_first(x, ~good):g}" if x.ndim else f"{name} is {float(x):g}"
        raise ValueError(f"{what}: give finite numbers")


def _tolerance(x: np.ndarray) -> float:
    return 1e-6 if x.dtype == np.float64 else 1e-5


def _check_indices(name: str, value: Any) -> None:
    x = np.asarray(value)
    whole = x.dtype.kind in "iu" and bool(np.all(x >= 0))
    require(whole, f"{name} is {x.tolist()!r:.60}: give whole numbers from 0")


def _check_rows(name: str, value: Any) -> None:
    x = _numbers(name, value)
    _check_sums(name, x, x, "probabilities, not log-probabilities")


def _check_log_rows(name: str, value: Any) -> None:
    x = _numbers(name, value)
    with np.errstate(over="ignore"):
        chances = np.exp(x.astype(np.float64))
    _check_sums(f"exp({name})", x, chances, "log-probabilities, not probabilities or logits")


def _check_sums(name: str, given: np.ndarray, chances: np.ndarray, what: str) -> None:
    """Raise for rows that are no distributions, in the words of what was to be given."""
    sums = np.asarray(np.sum(chances, axis=-1, dtype=np.float64))
    wrong = ~(np.abs(sums - 1.0) <= _tolerance(given)) | ~np.all(chances >= -1e-15, axis=-1)
    if np.any(wrong):
        where = np.unravel_index(np.argmax(wrong), wrong.shape)
        row = f"row {', '.join(map(str, where))}" if where else "it"
        raise ValueError(
            f"rows of {name} must be at least 0 and sum to 1: {row} sums to {sums[where]:.9g}, "
            f"its smallest entry is {np.min(chances[where]):.3g}; give {what}"
        )


def _check_logits(name: str, value: Any) -> None:
    x = _numbers(name, value)
    good = np.all((x < np.inf), axis=-1) & np.any(x > -np.inf, axis=-1)
    require(
        bool(np.all(good)), f"{name} has a row with NaN, with inf or of -inf alone: give logits"
    )


# --- names --------------------------------------------------------------------------------------

# One row a name: what an argument of that name is, unless its function says otherwise.
ARGUMENTS: Mapping[str, Argument] = {
    "advantage": finite("SA"),
    "baseline": finite(),
    "baseline_rate": finite(),
    "clip_eps": number(0.0),
    "concentration": number(0.0, without="low"),
    "constant": number(0.0),
    "epsilon": number(0.0),
    "eta": number(0.0, without="low"),
    "fail": number(0.0, 1.0),
    "final_value": finite("S"),
    "fraction": number(0.0, 1.0),
    "gae_lambda": number(0.0, 1.0),
    "gamma": number(0.0, 1.0, without="high"),
    "horizon": count(0),
    "iteration": count(0),
    "iterations": count(0),
    "largest_advantage": number(0.0),
    "lean": number(-1.0, 1.0),
    "learning_rate": finite(),
    "likelihood": number(0.0),
    "log_old": log_rows(),
    "log_policies": log_rows("NSK"),
    "log_policy": log_rows(),
    "log_target": log_rows(),
    "logits": logits_of(),
    "max_iterations": count(0),
    "mdp": Argument(lambda name, mdp: check_mdp(mdp)),
    "mistake": rows(),
    "new": rows(),
    "new_policy": rows(),
    "noise": number(0.0),
    "num": count(0),
    "num_actions": count(),
    "num_agents": count(),
    "num_iterations": count(0),
    "num_states": count(),
    "num_steps": count(0),
    "old": rows(),
    "payoff": finite(),
    "policies": rows("TSA"),
    "policy": rows(),
    "prior": rows(),
    "probabilities": number(0.0, 1.0),
    "probability": number(0.0, 1.0 + 1e-5),
    "q": finite("SA"),
    "rate": number(0.0, 1.0),
    "records": count(),
    "reward": finite(),
    "rewards": finite("A"),
    "scale": number(0.0),
    "slip": number(0.0, 1.0),
    "step_size": number(0.0, without="low"),
    "steps": count(),
    "sweeps": count(0),
    "target": number(0.0),
    "tau": number(0.0, 1.0),
    "temperature": number(0.0, without="low"),
    "tolerance": number(0.0),
    "value": finite("S"),
    "values": finite("S"),
    "visitation": finite("S"),
}
