"""What options are about: the groups that the help shows, in its order."""

from __future__ import annotations

from collections.abc import Iterable

from jaxrl_pg.cli.options import Option

__all__ = ["FIELDS", "in_order", "of"]

# Fields of the agents' configs. What is in no row is of the agent's own method.
FIELDS = {
    "environment": ("env", "env_params", "frame_stack", "gamma", "reward_scale"),
    "length and rollout": (
        *("total_timesteps", "num_envs", "num_steps", "num_devices"),
        *("normalize_obs", "normalize_reward"),
    ),
    "network": (
        *("hidden_sizes", "activation", "cnn", "conv_features", "conv_layers", "layer_norm"),
        *("residual", "dtype", "matmul_precision", "shared_torso", "log_std_init"),
        *("core", "core_size", "num_critics"),
    ),
    "optimisation": (
        *("learning_rate", "anneal_lr", "max_grad_norm", "num_epochs", "num_minibatches"),
        *("num_updates", "batch_size", "policy_learning_rate", "value_learning_rate"),
        *("policy_delay", "critic_epochs", "std_rate", "bound_coef"),
    ),
    "replay": ("buffer_size", "learning_starts", "replay_ratio"),
    "exploration": (
        *("ent_coef", "epsilon_start", "epsilon_end", "exploration_fraction"),
        *("exploration_noise", "noise_correlation", "duration_mu"),
    ),
}
_METHOD = "method"
_TOPICS = {name: topic for topic, names in FIELDS.items() for name in names}


def of(option: Option) -> str:
    """Return the title of the group that an option of an agent's config is in."""
    return _TOPICS.get(option.name, _METHOD)


def in_order(found: Iterable[str]) -> list[str]:
    """Return titles in the order of the help: the command's, the config's, and then the others."""
    first = ["", *FIELDS, _METHOD]
    titles = list(found)
    return [t for t in first if t in titles] + [t for t in titles if t not in first]
