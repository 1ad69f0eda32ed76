"""An old policy to start from: which of its arrays a fresh train state takes.

    state = jaxrl_pg.init(config, key, initial_policy=policy)    # of this agent, or one like it

All that the policy reads is taken: its network's parameters, and the statistics by which it
normalises observations. Of a learner of the same kind the other networks are taken too (values,
critics), and what belongs to them. The agent's `adopt` makes the rest anew: optimisers, target
networks, counters. Replay, environments and keys are those of a fresh state.
"""

from __future__ import annotations

import functools
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax.interpreters.partial_eval import dce_jaxpr

from jaxrl_pg import envs
from jaxrl_pg.config import OBJECTS, BaseConfig, agent_of, path_of
from jaxrl_pg.training.arguments import Shapes, leaf_shapes, stand_in
from jaxrl_pg.types import TrainState

__all__ = ["Source", "adopted", "arrays_of", "leaves_read", "paths_taken", "source_of"]

Path = tuple[Any, ...]

# Fields of configs that say what a policy computes, beside the shapes of its parameters.
_LAYERS = ("hidden_sizes", "activation", "layer_norm", "residual")
_CONVOLUTIONS = ("cnn", "conv_features", "conv_layers")
_ALWAYS = ("frame_stack", "network", "core", "covariance", "factors", "views")
_OBS = (jax.tree_util.GetAttrKey("normalizer"), jax.tree_util.GetAttrKey("obs"))


class Source(NamedTuple):
    """What an old policy is taken from.

    Attributes:
        learner: a learner; or parameters alone.
        config: the config that made it; None if that is not known.
    """

    learner: Any
    config: BaseConfig | None = None


def source_of(initial_policy: Any) -> Source:
    """Return what is given as a learner, with its config where there is one.

    Args:
        initial_policy: a `Policy`, a train state, a learner, or the tree of parameters that a
            learner calls `params`.

    Raises:
        ValueError: for a path, which only `run` reads.
    """
    if isinstance(initial_policy, str) or hasattr(initial_policy, "__fspath__"):
        raise ValueError(
            f"initial_policy={str(initial_policy)!r} and no files are read here: give "
            "jaxrl_pg.load(...) of it, or use jaxrl_pg.run"
        )
    config, state = (getattr(initial_policy, name, None) for name in ("config", "state"))
    if isinstance(config, BaseConfig) and isinstance(state, TrainState):
        return Source(state.learner, config)
    if isinstance(initial_policy, TrainState):
        return Source(initial_policy.learner)
    return Source(initial_policy)


def adopted(config: BaseConfig, state: TrainState[Any], source: Source) -> TrainState[Any]:
    """Return a fresh train state that begins with an old policy.

    Its arrays may be traced: they are arguments of the program, not constants in it.

    Args:
        config: the agent's.
        state: fresh, from the agent's `init`.
        source: the old policy.

    Raises:
        ValueError: if it has no policy network of this kind, or is of other sizes, observations or
            actions.
    """
    agent, learner = agent_of(config), state.learner
    taken, arrays = paths_taken(config, learner, source), arrays_of(source, learner)
    merged = jax.tree_util.tree_map_with_path(
        lambda path, x: jnp.asarray(arrays[path], x.dtype) if path in taken else x, learner
    )
    return state._replace(learner=agent.adopt(config, learner, merged))


def paths_taken(config: BaseConfig, learner: Any, source: Source) -> frozenset[Path]:
    """Return the paths of a learner's arrays that an old policy is to fill.

    They are those of the policy; and where the old learner is of the same kind, those of every
    field that it has whole and in the same shapes.

    Args:
        config: the agent's.
        learner: a fresh one, or its shapes.
        source: the old policy.

    Raises:
        ValueError: if it does not fit, or the agent does not say how it begins with one.
    """
    agent = agent_of(config)
    if agent.adopt is None:
        raise ValueError(
            f"agent {agent.name!r} does not say how it begins with an old policy: give its Agent "
            "adopt=..., such as components.on_policy.adopt"
        )
    given, policy = _as_learner(source, learner), _policy_paths(config)
    _require_fit(config, learner, given, source.config)
    policy |= {path for path in _leaves(learner) if path[:2] == _OBS}
    if type(given) is not type(learner):
        return policy
    fits = {
        jax.tree_util.GetAttrKey(name)
        for name in learner._fields
        if _shapes(getattr(given, name)) == _shapes(getattr(learner, name))
    }
    return policy | {path for path in _leaves(learner) if path[0] in fits}


def arrays_of(source: Source, learner: Any) -> dict[Path, Any]:
    """Return the arrays of an old policy by the paths that they have in a learner."""
    return _leaves(_as_learner(source, learner))


def leaves_read(config: BaseConfig, learner: Any, values: bool = True) -> list[tuple[Path, bool]]:
    """Return the path of each array of a learner, and whether acting reads it.

    It is seen in the traces of `act`, and of `value` if asked for, so that it holds for any agent.

    Args:
        config: the agent's.
        learner: arrays, or their shapes.
        values: count what `value` reads, too.
    """
    agent = agent_of(config)
    obs = envs.observations.blank(envs.of(config).spec.obs_shape, 1)
    hidden = agent.memory.start(config, 1) if agent.memory else ()
    remembers = bool(jax.tree.leaves(hidden))

    def outputs(learner: Any) -> Any:
        key = jax.random.key(0)
        rest = (hidden,) if remembers else ()
        act, value = (
            (agent.memory.act, agent.memory.value) if remembers else (agent.act, agent.value)
        )
        actions = [act(config, learner, obs, key, mean, *rest) for mean in (True, False)]
        if remembers and not values:
            actions = [action for action, _ in actions]
        return actions, value(config, learner, obs, *rest) if values else ()

    jaxpr = jax.make_jaxpr(outputs)(learner).jaxpr
    _, is_read = dce_jaxpr(jaxpr, [True] * len(jaxpr.outvars))
    paths = [path for path, _ in jax.tree_util.tree_leaves_with_path(learner)]
    return list(zip(paths, is_read, strict=True))


def _as_learner(source: Source, learner: Any) -> Any:
    """Return the old learner; around parameters alone, one that has nothing else."""
    given = source.learner
    if isinstance(given, type(learner)) or hasattr(given, "params"):
        return given
    return type(learner)(**{**dict.fromkeys(learner._fields, ()), "params": given})


def _require_fit(config: BaseConfig, learner: Any, given: Any, old: BaseConfig | None) -> None:
    """Refuse a policy that this config's could not be; the first difference is named."""
    agent, have, fresh = agent_of(config), _shapes(given), _shapes(learner)
    want = {path: fresh[path] for path in fresh if path in _policy_paths(config)}
    whose = "initial_policy" if old is None else f"initial_policy (of {agent_of(old).name})"
    is_known = old is not None and agent_of(old) is agent
    if not is_known and not {path for path in want if path[:1] != _OBS[:1]} & set(have):
        raise ValueError(
            f"{whose} has no policy network of the kind that {agent.name} has: give a policy of "
            f"{agent.name}, or of an agent with the same network"
        )
    if old is not None:
        _require_same_kind(config, old, whose)
    normalized, normalizes = (any(path[:2] == _OBS for path in x) for x in (have, fresh))
    if normalized != normalizes:
        raise ValueError(
            f"{whose} has {'' if normalized else 'no '}statistics to normalise observations by, "
            f"and this config normalize_obs={normalizes}: give normalize_obs={normalized}"
            + (", or the whole learner instead of its parameters" if normalizes else "")
        )
    for path, shape in want.items():
        if have.get(path) != shape:
            there = have.get(path)
            many = there is not None and there[1:] == shape != there
            raise ValueError(
                f"{whose} has {jax.tree_util.keystr(path)} "
                f"{'missing' if there is None else list(there)} and this config of {agent.name} "
                f"makes {list(shape)}: "
                + ("use jax.vmap for the policies of many" if many else "give the same sizes")
            )


def _require_same_kind(config: BaseConfig, old: BaseConfig, whose: str) -> None:
    """Refuse another network, or observations or actions of another kind."""
    spec, old_spec = envs.of(config).spec, envs.of(old).spec
    names: tuple[str, ...] = _ALWAYS
    if config.network is None:
        shapes = envs.observations.shapes(spec.obs_shape).values()
        names += _LAYERS + (_CONVOLUTIONS if any(len(shape) == 3 for shape in shapes) else ())
    for name in names:
        now, then = (_named(getattr(x, name, None)) for x in (config, old))
        if now != then and hasattr(config, name) and hasattr(old, name):
            shell = "" if name in OBJECTS else f" ({_option(name, then)} in a shell)"
            raise ValueError(
                f"{whose} has {name}={then!r} and this config {now!r}: give {name}={then!r}{shell}"
            )
    for name in spec._fields:
        now, then = getattr(spec, name), getattr(old_spec, name)
        if now != then:
            raise ValueError(
                f"{whose} is of {_named(old.env)!r} with {name}={then} and env="
                f"{_named(config.env)!r} has {now}: give a policy of an environment with the same "
                "observations and actions"
            )


def _option(name: str, value: Any) -> str:
    """Return a field and its value as an option of the command line."""
    flag = name.replace("_", "-")
    if isinstance(value, bool):
        return f"--{'' if value else 'no-'}{flag}"
    parts = value if isinstance(value, tuple) else (value,)
    words = [",".join(map(str, x)) if isinstance(x, tuple) else str(x) for x in parts]
    return f"--{flag} {' '.join(words)}"


def _named(value: Any) -> Any:
    """An object of the program by its path, anything else as it is."""
    is_plain = value is None or isinstance(value, bool | int | str | tuple)
    return value if is_plain else path_of(value)


def _policy_paths(config: BaseConfig) -> frozenset[Path]:
    """The paths of what `act` reads of a learner."""
    return _read_by_act(agent_of(config), jax.tree.structure(config), leaf_shapes(config))


@functools.lru_cache(maxsize=64)
def _read_by_act(agent: Any, structure: Any, shapes: Shapes) -> frozenset[Path]:
    """The same for all configs of one static part: their floats change nothing in it."""
    config = stand_in(structure, shapes)
    learner = jax.eval_shape(agent.init, config, jax.eval_shape(jax.random.key, 0)).learner
    return frozenset(path for path, read in leaves_read(config, learner, values=False) if read)


def _leaves(tree: Any) -> dict[Path, Any]:
    return dict(jax.tree_util.tree_leaves_with_path(tree))


def _shapes(tree: Any) -> dict[Path, tuple[int, ...]]:
    return {path: jnp.shape(leaf) for path, leaf in _leaves(tree).items()}
