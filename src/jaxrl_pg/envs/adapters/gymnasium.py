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
import os
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from types import ModuleType
from typing import Any

import jax
import numpy as np

from jaxrl_pg.envs.adapters import gymnasium_spaces
from jaxrl_pg.envs.adapters.counted import NO_LIMIT
from jaxrl_pg.envs.host import HostEnvironment, Show
from jaxrl_pg.envs.kept import HostError

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
        with _in_a_line(f"{module} of {task!r} cannot be imported"):
            importlib.import_module(module)
    return own in _gymnasium().registry


def options(task: str) -> dict[str, Any]:
    """Return the arguments of an environment's class that have defaults, and these.

    Raises:
        ValueError: if what the environment needs is not installed.
    """
    spec, suite = _spec(task), _gymnasium()
    creator = spec.entry_point
    if isinstance(creator, str):
        with _in_a_line(f"'gymnasium:{task}' cannot be made here"):
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

    Raises:
        ValueError: if it cannot be made, or has spaces that no policy here can serve.
    """
    suite = _gymnasium()

    def make_one(**more: Any) -> Any:
        # Neither TimeLimit nor a checker, which would speak of each environment.
        return suite.make(task, max_episode_steps=-1, disable_env_checker=True, **given, **more)

    with _in_a_line(f"{name!r} cannot be made here"):
        env = make_one()
    observed = gymnasium_spaces.observations(name, suite, env.observation_space)
    acted = gymnasium_spaces.actions(name, suite, env.action_space)
    is_seen = "rgb_array" in (env.metadata.get("render_modes") or ())
    env.close()

    def make_shown(num: int, show: Show) -> _Vector:
        if sys.platform == "linux" and not os.environ.get("DISPLAY"):
            os.environ.setdefault("MUJOCO_GL", "egl")  # MuJoCo would ask for a display
        made = [make_one(render_mode="rgb_array") for _ in range(num)]
        return _Vector(name, made, observed.stack, acted.convert, show)

    return HostEnvironment(
        name,
        lambda num: _Vector(name, [make_one() for _ in range(num)], observed.stack, acted.convert),
        observed.space,
        acted.space,
        observed.like,
        _spec(task).max_episode_steps or NO_LIMIT,
        make_shown if is_seen else None,
    )


class _Vector:
    """Environments side by side, stepped one after the other."""

    def __init__(
        self,
        name: str,
        envs: list[Any],
        stack: Callable[[list[Any]], Any],
        convert: Callable[[np.ndarray], Any],
        show: Show | None = None,
    ) -> None:
        self._name, self._envs, self._stack, self._convert = name, envs, stack, convert
        self._show = show
        # Graphics belong to the thread that began to draw, and callbacks come from any.
        self._painter = None if show is None else ThreadPoolExecutor(1)

    def reset(self, seeds: np.ndarray) -> Any:
        obs = self._stack([self._start(i, int(seed)) for i, seed in enumerate(seeds)])
        self._be_seen()
        return obs

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
        self._be_seen()
        final_obs = obs = self._stack(final)
        ended = np.flatnonzero(terminated | truncated | late) if restart else ()
        if len(ended):
            fresh = self._stack([self._start(int(i)) for i in ended])
            obs = jax.tree.map(np.copy, final_obs)
            jax.tree.map(lambda x, new: x.__setitem__(ended, new), obs, fresh)
        return final_obs, obs, reward, terminated, truncated

    def close(self) -> None:
        for env in self._envs:
            if self._painter is None:
                env.close()
            else:
                self._painter.submit(env.close).result()
        if self._painter is not None:
            self._painter.shutdown()

    def _be_seen(self) -> None:
        if self._show is None or self._painter is None:
            return
        pictures = []
        for i, env in enumerate(self._envs):
            try:
                pictures.append(np.asarray(self._painter.submit(env.render).result(), np.uint8))
            except Exception as error:
                raise self._raised(i, "render", error) from error
        self._show(pictures)

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


@contextlib.contextmanager
def _in_a_line(said: str) -> Iterator[None]:
    """Say as an error of the user's what their code or a library of theirs raises."""
    try:
        yield
    except Exception as error:
        line = (str(error).splitlines() or [""])[0]
        raise ValueError(f"{said} ({type(error).__name__}): {line:.300}") from error


def _spec(task: str) -> Any:
    """Return what is registered for an id, whose module was imported by `knows`."""
    return _gymnasium().registry[task.rpartition(":")[2]]


def _gymnasium() -> ModuleType:
    import gymnasium

    return gymnasium
