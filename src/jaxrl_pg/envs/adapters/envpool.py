"""EnvPool: simulators in C++, stepped side by side by threads (Weng et al. 2022, arXiv 2206.10558).

    ppo.Config(env="envpool:Pong-v5", cnn="nature", num_envs=64)
    ppo.Config(env="envpool:HalfCheetah-v5?num_threads=4")

The environments live on the host, as gymnasium's do, but one call steps them all. Left to itself,
EnvPool begins the next episode one step late: it passes over the action after an episode's last
one and gives the first observation instead. Here every environment that has ended is reset at
once, so that no action is lost. Its time limit is put out of reach, and the steps are counted here,
but where every episode has a limit of its own.
Images that come with their channels first are turned round. Options of a name are the fields of
EnvPool's own config.
"""

from __future__ import annotations

from collections.abc import Callable
from types import ModuleType
from typing import Any

import gymnasium
import jax
import numpy as np

from jaxrl_pg.envs.adapters import gymnasium_spaces
from jaxrl_pg.envs.adapters.counted import NO_LIMIT
from jaxrl_pg.envs.host import HostEnvironment
from jaxrl_pg.envs.kept import HostError

__all__ = ["make", "names", "options"]

_NEVER = 2**31 - 1  # steps; the limit is ours
# Fields that a name cannot give: how many there are, their seeds, and how the call is made.
_OURS = (
    "num_envs",
    "batch_size",
    "max_num_players",
    "base_path",
    "seed",
    "env_seed",
    "gym_reset_return_info",
    "max_episode_steps",
    "reward_threshold",
)


def names() -> list[str]:
    """Return EnvPool's task ids."""
    return sorted(_envpool().list_all_envs())


def options(task: str) -> dict[str, Any]:
    """Return the fields of a task's config, and their defaults.

    Raises:
        ValueError: if the system lacks a library that the task needs.
    """
    fields = _config(task)._asdict()
    return {name: default for name, default in fields.items() if name not in _OURS}


def make(name: str, task: str, **given: Any) -> HostEnvironment:
    """Describe an environment; none is made yet.

    Args:
        name: what error messages call it.
        task: EnvPool's id, such as `Pong-v5`.
        **given: fields of its config.

    Raises:
        ValueError: if it has more than one player, or spaces that no policy here can serve.
    """
    config = _config(task)
    if config.max_num_players > 1:
        raise ValueError(f"{name!r} has {config.max_num_players} players: give one with one")
    spec = _envpool().make_spec(task, **given)
    space = _channels_last(spec.gymnasium_observation_space)
    observed = gymnasium_spaces.observations(name, gymnasium, space)
    acted = gymnasium_spaces.actions(name, gymnasium, spec.gymnasium_action_space)
    limit = getattr(config, "max_episode_steps", 0)  # 0 where each episode has its own
    if limit:
        given["max_episode_steps"] = _NEVER

    def make_all(seeds: np.ndarray) -> Any:
        seed = [int(x) for x in seeds & 0x7FFFFFFF]  # its seeds are int32
        return _envpool().make_gymnasium(task, num_envs=len(seeds), seed=seed, **given)

    return HostEnvironment(
        name,
        lambda num: _Pool(name, make_all, observed.cast, acted.convert),
        observed.space,
        acted.space,
        observed.like,
        limit or NO_LIMIT,
    )


class _Pool:
    """EnvPool's environments, made when they are first reset, because their seeds are given then.

    Attributes:
        pool: what EnvPool makes; None before.
    """

    def __init__(
        self,
        name: str,
        make: Callable[[np.ndarray], Any],
        cast: Callable[[Any], Any],
        convert: Callable[[np.ndarray], Any],
    ) -> None:
        self._name, self._make, self._cast, self._convert = name, make, cast, convert
        self.pool: Any = None

    def reset(self, seeds: np.ndarray) -> Any:
        self.pool = self._make(seeds)
        return self._observed(self._called("reset"))

    def step(self, action: np.ndarray, late: np.ndarray, restart: bool) -> tuple[Any, ...]:
        final, reward, terminated, truncated, _ = self._called("step", self._convert(action))
        final_obs = obs = self._observed([final])
        ended = np.flatnonzero(terminated | truncated | late).astype(np.int32)
        if restart and len(ended):
            fresh = self._observed(self._called("reset", ended))
            obs = jax.tree.map(np.copy, final_obs)
            jax.tree.map(lambda x, new: x.__setitem__(ended, new), obs, fresh)
        return final_obs, obs, reward.astype(np.float32), terminated, truncated

    def close(self) -> None:
        if self.pool is not None:
            self.pool.close()

    def _observed(self, given: Any) -> Any:
        return self._cast(jax.tree.map(_turned, given[0]))

    def _called(self, method: str, *given: Any) -> Any:
        try:
            return getattr(self.pool, method)(*given)
        except Exception as error:
            line = (str(error).splitlines() or [""])[0]
            raise HostError(
                f"{self._name}: {method} raises {type(error).__name__}: {line:.200}"
            ) from error


def _channels_last(space: Any) -> Any:
    """Return a space with its images turned round."""
    if isinstance(space, gymnasium.spaces.Dict):
        parts = space.spaces.items()
        return gymnasium.spaces.Dict({key: _channels_last(part) for key, part in parts})
    if isinstance(space, gymnasium.spaces.Box) and _is_image(space.shape, space.dtype):
        height, width = space.shape[1:]
        return gymnasium.spaces.Box(0, 255, (height, width, space.shape[0]), np.uint8)
    return space


def _turned(batch: np.ndarray) -> np.ndarray:
    return np.moveaxis(batch, 1, -1) if _is_image(batch.shape[1:], batch.dtype) else batch


def _is_image(shape: tuple[int, ...], kind: Any) -> bool:
    """Say whether an observation is an image `[C, H, W]`: bytes, and fewer of them along C."""
    return kind == np.uint8 and len(shape) == 3 and shape[0] < min(shape[1:])


def _config(task: str) -> Any:
    try:
        return _envpool().make_spec(task).config
    except ImportError as error:
        line = (str(error).splitlines() or [""])[0]
        raise ValueError(f"'envpool:{task}' cannot be made here: {line:.300}") from error


def _envpool() -> ModuleType:
    import envpool

    return envpool
