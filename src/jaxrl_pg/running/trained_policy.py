"""A trained policy: to act with, to evaluate, to save alone, and to load from a run's folder."""

from __future__ import annotations

import math
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

import jax

from jaxrl_pg import agents, checkpoint, envs, files, zoo
from jaxrl_pg import config as configs
from jaxrl_pg.config import BaseConfig, agent_of
from jaxrl_pg.running.run_folder import RunFolder, config_of
from jaxrl_pg.training import acting, devices, evaluation, members, priors, seeding
from jaxrl_pg.training.arguments import require_hidden
from jaxrl_pg.types import TrainState

if TYPE_CHECKING:
    from jaxrl_pg.export import folder
    from jaxrl_pg.watch.movie import Movie

__all__ = ["Policy", "load"]


class Policy:
    """A trained policy.

        policy = jaxrl_pg.load("runs/demo")
        action = policy(obs)                                # the most probable action
        action = policy(obs, jax.random.key(0))             # a sampled one
        returns = policy.evaluate(jax.random.key(1))        # [128] returns of whole episodes
        hidden = policy.start(16)                           # with a recurrent core
        action, hidden = policy(obs, hidden=hidden)
        policy.save("policies/demo")                        # jaxrl_pg.load reads it
        policy.export("exported")                           # for programs without JAX
        policy.gif("play.gif")                              # see it play

    Observations are given as they come from the environment: whole numbers where they are
    `Discrete`, so that one gives one action and `arange(16)` gives 16. Where the agent normalises
    them, the policy does so with the statistics of its training.

    Attributes:
        config: the agent's config.
        state: the train state it was restored from; parts that a policy does not need, such as the
            replay buffer, are empty.
        step: the training iteration it is from.
    """

    def __init__(self, config: BaseConfig, state: TrainState[Any], step: int) -> None:
        """Wrap a train state, such as `Policy(config, state, int(state.iteration))`."""
        self.config, self.state, self.step = config, state, step
        self._known: tuple[BaseConfig | None, Any] = (None, ())

    def start(self, num: int) -> Any:
        """Return what the policy's recurrent core remembers when `num` episodes begin.

        Zeros `[num, ...]`, for `policy(obs, key, hidden)`; `()` without a core.
        """
        agent = agent_of(self.config)
        return agent.memory.start(self.config, num) if agent.memory else ()

    def __call__(self, obs: Any, key: jax.Array | None = None, hidden: Any = None) -> Any:
        """Return actions in the environment's own units.

        The observations and the key may be traced: `jax.vmap(policy)` and `jax.jit(policy)` work.

        Args:
            obs: one observation, or a batch `[N, ...]`, as the environment gives it.
            key: random key to sample with; None takes the most probable action.
            hidden: what a recurrent core remembers: `start(num)` where `num` episodes begin, and
                then what the last call returned. Only for policies with a core.

        Returns:
            The actions; with a core, the actions and what it remembers now.

        Raises:
            ValueError: if `obs` or `hidden` has another shape or type, or `key` is no random key.
        """
        key = None if key is None else seeding.require_key(key)
        arrays, hidden = self._checked(obs, hidden)
        action, after = _act(self.config, self.state.learner, arrays, key, hidden)
        return action if hidden is None else (action, after)

    def value(self, obs: Any, hidden: Any = None) -> jax.Array:
        """Return the critic's estimate of the discounted return from each observation on.

        It is in the units in which the agent learns: with `normalize_reward`, of scaled rewards.

        Args:
            obs: one observation, or a batch `[N, ...]`, as the environment gives it; may be traced.
            hidden: what a recurrent core remembers before it, as for acting.

        Returns:
            A scalar for one observation, `[N]` for a batch.

        Raises:
            ValueError: if `obs` or `hidden` has another shape or type.
        """
        arrays, hidden = self._checked(obs, hidden)
        return _value(self.config, self.state.learner, arrays, hidden)

    def evaluate(
        self, key: jax.Array, num_episodes: int = 128, deterministic: bool = True
    ) -> jax.Array:
        """Return the undiscounted returns `[num_episodes]` of whole episodes.

            returns = policy.evaluate(jax.random.key(0), 1000)
            mean, error = returns.mean(), returns.std() / 1000**0.5

        Args:
            key: the same key gives the same episodes; may be traced.
            num_episodes: as many environments are stepped side by side, one episode each.
            deterministic: take the most probable action instead of a sampled one.
        """
        return evaluation.evaluate(self.config, self.state, key, num_episodes, deterministic)

    def watch(self, *, deterministic: bool = True, **settings: Any) -> Movie:
        """Play episodes, and return them as a movie that a notebook shows by itself.

            movie = policy.watch(num_episodes=3, seed=1)
            movie.save("play.gif")
            movie.returns  # those of policy.evaluate(jax.random.key(1), 3)

        Args:
            deterministic: take the most probable action instead of a sampled one.
            **settings: `num_episodes` (1), `seed` (0), `max_steps` (1000) of an episode to show at
                most, `fps` (30), `every` (1) how many steps a frame is, `width` (400) in pixels.

        Raises:
            ValueError: for a setting that is not one of these, or out of its range.
        """
        from jaxrl_pg.watch import watching  # drawing is loaded where it is asked for

        return watching.watch(
            self.config, self.state, watching.settings_of(settings), deterministic
        )

    def gif(
        self, path: str | os.PathLike[str], *, deterministic: bool = True, **settings: Any
    ) -> Movie:
        """Play episodes and write them as a GIF, or where the path ends in `.html` as a page.

            policy.gif("play.gif", num_episodes=3, every=2)

        Args:
            path: the file; one that is there is replaced.
            deterministic: take the most probable action instead of a sampled one.
            **settings: as `watch`.

        Returns:
            The movie, whose `returns` are those of the episodes shown.

        Raises:
            ValueError: as `watch`, or for a path that cannot be written, before anything is played.
        """
        from jaxrl_pg.watch import movie

        place = movie.require_path(path)
        played = self.watch(deterministic=deterministic, **settings)
        played.save(place)
        return played

    def save(self, path: str | os.PathLike[str]) -> None:
        """Save the policy alone: what it needs to act and to value, and its config.

        That is the parameters and the statistics of the normaliser, but no optimiser, environment
        or replay. `jaxrl_pg.load(path)` reads it, and so does plain Orbax: see `checkpoint`.

        Args:
            path: a folder that does not exist yet; it appears only once it is complete.

        Raises:
            ValueError: if there is something at the path.
        """
        values = configs.to_dict(self.config)
        host = {**agents.names_of(self.config), "env": values["env"], "config": values}
        state = _policy_part(self.config, self.state)
        checkpoint.save_tree(files.as_path(path), state, host, self.step)

    def export(self, path: str | os.PathLike[str], onnx: bool = False) -> folder.Exported:
        """Write the policy for other programs: a folder that needs neither JAX nor this package.

            policy.export("exported")
            # elsewhere, with NumPy alone: from policy import load; load()(obs)

        It holds a description (policy.json), the arrays (policy.safetensors), a loader for NumPy
        (policy.py), and what `jax.export` reads (act.jaxexport, sample.jaxexport).

        Args:
            path: a folder that does not exist yet; it appears only once it is complete.
            onnx: write policy.onnx as well (extra: onnx).

        Returns:
            What is in the folder, and what is left out and why: of a network or cell of one's own
            there is only what `jax.export` reads.

        Raises:
            ValueError: if there is something at the path, or ONNX is asked for and cannot be had.
        """
        from jaxrl_pg.export import folder

        return folder.write(self.config, self.state, self.step, path, onnx)

    def _checked(self, obs: Any, hidden: Any) -> tuple[Any, Any]:
        """Return observations as arrays, and what a core remembers, looked at before any tracing.

        The environment is made once for a config: that takes longer than acting.
        """
        config, parts = self._known
        if config is not self.config:
            parts = envs.observations.parts(envs.of(self.config))
            self._known = (self.config, parts)
        arrays, outer = envs.observations.checked(parts, obs)
        return arrays, require_hidden(self.config, hidden, math.prod(outer))


def load(
    path: str | os.PathLike[str],
    *,
    step: int | str | None = "latest",
    seed: int | None = None,
    env: Any = None,
    network: Any = None,
    optimizer: Any = None,
    core: Any = None,
) -> Policy:
    """Load a policy, normaliser included.

        jaxrl_pg.load("runs/demo")            # the newest good checkpoint of a run
        jaxrl_pg.load("runs/demo", step=20)   # the one of iteration 20
        jaxrl_pg.load("runs/demo", step="best")  # the one that was evaluated best
        jaxrl_pg.load("runs/eight", seed=3)   # of a run of several seeds, that one
        jaxrl_pg.load("policies/demo")        # what `Policy.save` saved
        jaxrl_pg.load("zoo:CartPole-v1/ppo")  # one that comes with the package

    Args:
        path: a run's folder, or the folder of a policy saved with `Policy.save` or by a sweep with
            `keep_policies`; or `zoo:ENV/AGENT`, see `jaxrl_pg.zoo`.
        step: which of the run's checkpoints: its iteration; "best", the one with the highest mean
            return when it was evaluated; or "latest" (None is the same), the newest good one.
        seed: of a run of several seeds, the one to load; None takes the first.
        env: the environment object, for an agent that was given one.
        network: likewise, the function that makes the network.
        optimizer: likewise, the function that makes the optimiser.
        core: likewise, the function that makes the recurrent cell.

    Raises:
        ValueError: if there is no such run, policy or checkpoint, or it is damaged.
    """
    objects = {"env": env, "network": network, "optimizer": optimizer, "core": core}
    if str(path).startswith(zoo.PREFIX):
        return _load_from_zoo(str(path), step=step, seed=seed, **objects)
    place = files.as_path(path)
    if checkpoint.is_checkpoint(place):
        return _load_alone(place, step, seed, **objects)
    run = RunFolder.open(path)
    config = config_of(run.path, run.config, **objects)
    first, num_seeds = run.seeds
    if seed is not None and seed not in range(first, first + num_seeds):
        last = f" to {first + num_seeds - 1}" if num_seeds > 1 else ""
        raise ValueError(f"seed={seed!r} but {run.path} has seed {first}{last}: give one it has")
    number = checkpoint.step_of(run.checkpoints_dir, step, run.run_id)
    if num_seeds > 1:
        shapes = members.state_shapes(config, num_seeds)
    else:
        shapes = devices.state_shapes(config)
    shapes = shapes._replace(memory=())  # a policy replays nothing
    restored = checkpoint.restore(
        run.checkpoints_dir, shapes, number, optional="memory", run=run.run_id
    )
    state = restored.state
    if num_seeds > 1:
        state = members.member(state, 0 if seed is None else seed - first)
    return Policy(config, state, restored.step)


def _load_from_zoo(name: str, **choices: Any) -> Policy:
    """Load a policy that comes with the package."""
    excess = [what for what, value in choices.items() if value not in (None, "latest")]
    if excess:
        raise ValueError(f"{name} is a single policy of its own: leave {', '.join(excess)} out")
    config, state = zoo.pretrained.read(name)
    return Policy(config, state, int(state.iteration))


def _load_alone(path: Path, step: int | str | None, seed: int | None, **objects: Any) -> Policy:
    """Load what `Policy.save` saved."""
    host = checkpoint.host_of(path)
    if "agent" not in host:
        raise ValueError(f"{path} is one checkpoint of a run: load the run's folder, with step=...")
    if seed is not None:
        raise ValueError(f"seed={seed} but {path} is a single policy: leave seed out")
    if step not in (None, "latest"):
        raise ValueError(f"step={step!r} but {path} is a single policy: leave step out")
    config = config_of(path, {"options": {}, "seed": 0, **host}, **objects)
    shapes = _policy_part(config, devices.state_shapes(config))
    state = checkpoint.load_tree(path, shapes)
    return Policy(config, state, int(state.iteration))


def _policy_part(config: BaseConfig, state: TrainState[Any]) -> TrainState[Any]:
    """Return a train state without what `act` and `value` do not read.

    What they read is seen in their traces, so that this holds for any agent. Fields of the learner
    are kept whole, or lose every array.
    """
    read = priors.leaves_read(config, state.learner)
    fields = {path[:1] for path, is_read in read if is_read}
    nothing: Any = ()
    learner = jax.tree_util.tree_map_with_path(
        lambda path, x: x if path[:1] in fields else nothing, state.learner
    )
    return state._replace(learner=learner, actor=nothing, memory=nothing, key=nothing)


@jax.jit
def _act(
    config: BaseConfig, learner: Any, obs: Any, key: jax.Array | None, hidden: Any
) -> tuple[jax.Array, Any]:
    """Act on observations with any axes in front; return what a core remembers then, too."""
    rows, outer = envs.as_rows(envs.of(config), obs)
    some_key = jax.random.key(0) if key is None else key
    action, after = acting.act(config, learner, rows, some_key, key is None, hidden)
    return action.reshape(*outer, *action.shape[1:]), after


@jax.jit
def _value(config: BaseConfig, learner: Any, obs: Any, hidden: Any) -> jax.Array:
    """Value observations with any axes in front."""
    rows, outer = envs.as_rows(envs.of(config), obs)
    if hidden is None:
        return agent_of(config).value(config, learner, rows).reshape(outer)
    return agent_of(config).memory.value(config, learner, rows, hidden).reshape(outer)
