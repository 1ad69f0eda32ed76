"""gymnasium: environments in Python or C, on the host (Towers et al. 2024, arXiv 2407.17032).

    ppo.Config(env="gymnasium:HalfCheetah-v5")
    ppo.Config(env="gymnasium:LunarLander-v3?continuous=true")
    ppo.Config(env="gymnasium:ale_py:ALE/Pong-v5")    # imports ale_py first, which registers it

The environments are gymnasium's own, without its time limit and without any automatic reset: those
are done here, so that the last observation is the true one. Options of a name are arguments of the
environment's class.
"""

from __future__ import annotations

import contextlib
import importlib
import inspect
from collections.abc import Callable, Iterator
from types import ModuleType
from typing import Any, NamedTuple

import jax
import numpy as np

from jaxrl_pg.envs.adapters import gymnax
from jaxrl_pg.envs.adapters.counted import NO_LIMIT
from jaxrl_pg.envs.host import HostEnvironment, HostError

__all__ = ["knows", "make", "names", "options"]

_OURS = ("render_mode",)  # arguments that a name cannot give


def names() -> list[str]:
    """Return the ids that are registered, without those that only say what is gone."""
    registry = _gymnasium().registry
    # Functions stand for what is gone, and raise.
    return sorted(
        name
        for name, spec in registry.items()
        if isinstance(spec.entry_point, str) or inspect.isclass(spec.entry_point)
    )


def knows(task: str) -> bool:
    """Say whether an id that is not listed can be made: `module:ID`, or one of a user's own.

    Raises:
        ValueError: if the module cannot be imported.
    """
    module, _, own = task.rpartition(":")
    if module:
        try:
            importlib.import_module(module)
        except ImportError as error:
            raise ValueError(f"{module} of {task!r} cannot be imported: {error}") from error
    return own in _gymnasium().registry


def options(task: str) -> dict[str, Any]:
    """Return the arguments of an environment's class that have defaults, and these.

    Raises:
        ValueError: if what the environment needs is not installed.
    """
    spec, suite = _spec(task), _gymnasium()
    creator = spec.entry_point
    if isinstance(creator, str):
        with _in_a_line(task):
            creator = suite.envs.registration.load_env_creator(creator)
    arguments = inspect.signature(creator).parameters.values()
    defaults = {x.name: x.default for x in arguments if x.default is not x.empty} | spec.kwargs
    return {name: default for name, default in defaults.items() if name not in _OURS}


def make(name: str, task: str, **given: Any) -> HostEnvironment:
    """Describe an environment, of which one is made and closed again.

    Args:
        name: what error messages call it.
        task: gymnasium's id, such as `HalfCheetah-v5`, or `module:ID`.
        **given: arguments of its class.
    """
    suite = _gymnasium()

    def make_one() -> Any:
        # Neither TimeLimit nor a checker, which would speak of each environment.
        return suite.make(task, max_episode_steps=-1, disable_env_checker=True, **given)

    with _in_a_line(task):
        env = make_one()
    observed = _observations(name, suite, env.observation_space)
    acted = _actions(suite, env.action_space)
    env.close()
    return HostEnvironment(
        name,
        lambda num: _Vector(name, [make_one() for _ in range(num)], observed.stack, acted.convert),
        observed.space,
        acted.space,
        observed.like,
        _spec(task).max_episode_steps or NO_LIMIT,
    )


class _Actions(NamedTuple):
    """A space of actions, and from a batch of them to what each environment is given."""

    space: Any
    convert: Callable[[np.ndarray], Any]


class _Observations(NamedTuple):
    """A space of observations, what one is, and from those of all environments to a batch."""

    space: Any
    like: Any
    stack: Callable[[list[Any]], Any]


class _Vector:
    """Environments side by side, stepped one after the other."""

    def __init__(
        self,
        name: str,
        envs: list[Any],
        stack: Callable[[list[Any]], Any],
        convert: Callable[[np.ndarray], Any],
    ) -> None:
        self._name, self._envs, self._stack, self._convert = name, envs, stack, convert

    def reset(self, seeds: np.ndarray) -> Any:
        return self._stack([self._start(i, int(seed)) for i, seed in enumerate(seeds)])

    def step(self, action: np.ndarray, late: np.ndarray, restart: bool) -> tuple[Any, ...]:
        num = len(self._envs)
        final: list[Any] = [None] * num
        reward = np.empty(num, np.float32)
        terminated, truncated = np.empty(num, bool), np.empty(num, bool)
        for i, (env, one) in enumerate(zip(self._envs, self._convert(action), strict=True)):
            try:
                final[i], reward[i], terminated[i], truncated[i], _ = env.step(one)
            except Exception as error:
                raise self._raised(i, "step", error) from error
        final_obs = obs = self._stack(final)
        ended = np.flatnonzero(terminated | truncated | late) if restart else ()
        if len(ended):
            fresh = self._stack([self._start(int(i)) for i in ended])
            obs = jax.tree.map(np.copy, final_obs)
            jax.tree.map(lambda x, new: x.__setitem__(ended, new), obs, fresh)
        return final_obs, obs, reward, terminated, truncated

    def close(self) -> None:
        for env in self._envs:
            env.close()

    def _start(self, i: int, seed: int | None = None) -> Any:
        """Start an episode; without a seed from the numbers that the first one set off."""
        try:
            return self._envs[i].reset(seed=seed)[0]
        except Exception as error:
            raise self._raised(i, "reset", error) from error

    def _raised(self, i: int, method: str, error: Exception) -> HostError:
        line = (str(error).splitlines() or [""])[0]
        return HostError(
            f"{self._name}: {method} of environment {i} raises {type(error).__name__}: {line:.200}"
        )


def _actions(suite: ModuleType, space: Any) -> _Actions:
    """Return how actions are given to the environments.

    Raises:
        ValueError: for a space that no policy here can serve.
    """
    kinds, kind, shape = suite.spaces, space.dtype, space.shape
    if isinstance(space, kinds.Discrete):
        ours: Any = gymnax.discrete(int(space.n))
    elif isinstance(space, kinds.MultiDiscrete | kinds.MultiBinary):
        nvec = getattr(space, "nvec", np.full(shape, 2)).reshape(-1)
        ours = gymnax.multi_discrete(tuple(nvec.tolist()))
    elif isinstance(space, kinds.Box) and np.issubdtype(kind, np.floating):
        ours = _box(space.low.reshape(-1), space.high.reshape(-1), (space.low.size,))
    else:
        raise ValueError(
            f"actions are {space!r:.80}, and must be Discrete, MultiDiscrete, or a Box of real "
            "numbers"
        )
    start = getattr(space, "start", 0)
    return _Actions(ours, lambda action: (action.reshape(-1, *shape) + start).astype(kind))


def _observations(name: str, suite: ModuleType, space: Any, part: str = "") -> _Observations:
    """Return what observations become: bool and uint8 as they are, an index int32, else float32.

    Raises:
        ValueError: for a space that no network here can read.
    """
    kinds, kind, start = suite.spaces, np.dtype(np.float32), 0
    if isinstance(space, kinds.Dict | kinds.Tuple):
        return _structured(name, suite, space)
    if isinstance(space, kinds.Discrete):
        kind, start, ours = np.dtype(np.int32), int(space.start), gymnax.discrete(int(space.n))
    elif isinstance(space, kinds.Box):
        kind = space.dtype if space.dtype in (np.bool_, np.uint8) else kind
        ours = _box(space.low, space.high, space.shape)
    elif isinstance(space, kinds.MultiBinary | kinds.MultiDiscrete):
        ours = _box(0, getattr(space, "nvec", 2) - 1, space.shape)
    else:
        raise ValueError(
            f"observations are {space!r:.80}, and must be a Box, Discrete, or a Dict or Tuple of "
            "these"
        )
    shape, said = tuple(space.shape), f"an observation {part!r}" if part else "an observation"

    def stack(given: list[Any]) -> np.ndarray:
        batch = np.empty((len(given), *shape), kind)
        with np.errstate(over="ignore"):  # a number beyond float32 is infinite, which is seen
            for i, one in enumerate(given):
                if np.shape(one) != shape:
                    raise HostError(
                        f"{name}: {said} has shape {np.shape(one)}, and observation_space says "
                        f"{shape}"
                    )
                batch[i] = one
        return batch - start if start else batch

    return _Observations(ours, jax.ShapeDtypeStruct(shape, kind), stack)


def _structured(name: str, suite: ModuleType, space: Any) -> _Observations:
    """Return what a Dict becomes, or a Tuple, whose parts are called by their numbers."""
    is_dict = isinstance(space, suite.spaces.Dict)
    keys = list(space.spaces) if is_dict else range(len(space.spaces))
    parts = {str(key): _observations(name, suite, space[key], str(key)) for key in keys}

    def stack(given: list[Any]) -> dict[str, Any]:
        try:
            each = {str(key): [one[key] for one in given] for key in keys}
        except (IndexError, KeyError, TypeError) as error:
            raise HostError(f"{name}: an observation has no part {error}") from error
        return {key: part.stack(each[key]) for key, part in parts.items()}

    return _Observations(
        gymnax.dict_space({key: part.space for key, part in parts.items()}),
        {key: part.like for key, part in parts.items()},
        stack,
    )


def _box(low: Any, high: Any, shape: tuple[int, ...]) -> Any:
    """Return a space of real numbers, with bounds in the type of ours."""
    with np.errstate(over="ignore"):
        bounds: list[Any] = [np.asarray(bound, np.float32) for bound in (low, high)]
    return gymnax.box(bounds[0], bounds[1], tuple(shape))


@contextlib.contextmanager
def _in_a_line(task: str) -> Iterator[None]:
    """Say as an error of the user's what keeps an environment from being made."""
    try:
        yield
    except (_gymnasium().error.Error, ImportError) as error:
        line = (str(error).splitlines() or [""])[0]
        raise ValueError(f"{task} of gymnasium cannot be made here: {line}") from error


def _spec(task: str) -> Any:
    """Return what is registered for an id, whose module was imported by `knows`."""
    return _gymnasium().registry[task.rpartition(":")[2]]


def _gymnasium() -> ModuleType:
    import gymnasium

    return gymnasium
