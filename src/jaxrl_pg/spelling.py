"""Which name somebody may have meant: by its letters, or by what other libraries call it.

>>> closest("lerning_rate", ["gamma", "learning_rate"])
'learning_rate'
>>> closest("--lr", ["--gamma", "--learning-rate"])
'--learning-rate'
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable
from typing import Any

__all__ = ["ARGUMENTS", "ELSEWHERE", "OF_A_RUN", "closest", "near", "nearest", "nearest_field"]

_FEW = 8  # names that a message lists, though a command lists them too

# By our name, what CleanRL, Stable-Baselines3, PureJaxRL, rejax, Brax and papers call the same.
# Where several of ours would do, the one that stands first is proposed, if the agent has it.
ELSEWHERE: dict[str, str] = {
    "env": "env_id env_name environment task gym_id",
    "env_params": "env_kwargs env_args env_config",
    "total_timesteps": "steps total_steps num_timesteps timesteps max_steps n_timesteps",
    "num_envs": "n_envs envs nenvs num_workers num_actors parallel_envs",
    "n_step": "n_steps multi_step nstep",
    "num_steps": "n_steps rollout_length rollout_steps unroll_length horizon train_freq "
    "train_frequency",
    "policy_learning_rate": "policy_lr actor_lr lr_actor pi_lr lr_policy",
    "learning_rate": "lr adam_lr q_lr critic_lr lr_critic policy_lr actor_lr lr_actor",
    "anneal_lr": "lr_schedule linear_schedule lr_decay anneal",
    "gamma": "discount discounting discount_factor",
    "gae_lambda": "lam lambda lmbda lambda_ gae td_lambda",
    "q_lambda": "lam lambda lmbda lambda_ gae td_lambda gae_lambda",
    "num_epochs": "epochs n_epochs update_epochs ppo_epochs k_epochs num_updates_per_batch "
    "num_sgd_iter",
    "num_updates": "gradient_steps utd utd_ratio grad_updates_per_step num_epochs epochs",
    "num_minibatches": "minibatches n_minibatches nminibatches num_mini_batch num_mini_batches "
    "minibatch_size batch_size",
    "clip_eps": "clip_coef clip_range clip_ratio clip clip_param clip_epsilon clipping_epsilon "
    "eps_clip",
    "clip_eps_vf": "clip_vloss clip_range_vf vf_clip_param clip_vf value_clip",
    "ent_coef": "entropy_coef entropy_coeff entropy_cost entropy_bonus beta_entropy",
    "vf_coef": "value_coef vf_coeff vf_loss_coeff critic_coef value_loss_coef",
    "max_grad_norm": "grad_clip clip_grad max_gradient_norm gradient_clip clip_grad_norm",
    "target_kl": "max_kl kl_target",
    "max_kl": "target_kl delta max_kl_divergence trust_region",
    "normalize_advantage": "norm_adv normalize_advantages adv_norm",
    "normalize_obs": "norm_obs normalize_observations obs_norm vec_normalize",
    "normalize_reward": "norm_reward normalize_rewards reward_norm",
    "reward_scale": "reward_scaling",
    "hidden_sizes": "net_arch hidden_size hidden_layer_sizes hidden_dims hidden_dim layers "
    "policy_hidden_layer_sizes policy_kwargs agent_kwargs",
    "activation": "activation_fn",
    "core": "rnn lstm gru recurrent use_rnn use_lstm",
    "core_size": "rnn_size lstm_hidden_size rnn_hidden_size hidden_state_size",
    "frame_stack": "framestack num_stack n_stack stack_frames",
    "buffer_size": "replay_size memory_size replay_buffer_size max_replay_size buffer_capacity",
    "batch_size": "minibatch_size",
    "learning_starts": "fill_buffer warmup_steps min_replay_size start_steps random_steps",
    "tau": "polyak soft_update_tau",
    "target_period": "target_update_freq target_update_interval target_network_frequency "
    "target_update",
    "policy_delay": "policy_frequency policy_freq",
    "target_policy_noise": "policy_noise target_noise",
    "target_noise_clip": "noise_clip",
    "exploration_noise": "action_noise expl_noise act_noise",
    "epsilon_start": "start_e eps_start exploration_initial_eps epsilon eps",
    "epsilon_end": "end_e eps_end exploration_final_eps",
    "learn_alpha": "autotune auto_alpha",
    "alpha": "ent_coef entropy_coef temperature",
    "num_devices": "devices n_devices num_gpus gpus",
    "num_evals": "eval_freq eval_frequency eval_interval n_evals",
    "num_eval_episodes": "n_eval_episodes eval_episodes num_episodes",
    "num_episodes": "n_eval_episodes eval_episodes num_eval_episodes episodes",
    "checkpoint_seconds": "save_freq checkpoint_freq save_interval checkpoint_interval",
    "keep_last": "max_to_keep num_to_keep",
    "tensorboard": "tensorboard_log tb tb_log use_tensorboard",
    "quiet": "verbose silent",
    "run_dir": "log_dir logdir output_dir save_dir save_path out out_dir folder exp_name run_name",
    "init_from": "checkpoint load load_model load_path restore pretrained initial_policy",
    "initial_policy": "init_from pretrained load_model",
    "seeds": "num_seeds n_seeds",
    "num_seeds": "seeds n_seeds",
    "stochastic": "deterministic",
}

# What belongs to a run and not to an agent's config: by the argument of `jaxrl_pg.run`, the option
# of the command line and the key of an experiment file, where there are such.
OF_A_RUN: dict[str, tuple[str, str]] = {
    "seed": ("--seed", "seeds"),
    "num_seeds": ("--seeds", "seeds"),
    "seeds": ("--seeds", "seeds"),
    "run_dir": ("--run-dir", ""),
    "initial_policy": ("--init-from", "init_from"),
    "init_from": ("--init-from", "init_from"),
    "num_evals": ("--num-evals", "num_evals"),
    "num_eval_episodes": ("--num-eval-episodes", "num_eval_episodes"),
    "checkpoint_seconds": ("--checkpoint-seconds", ""),
    "keep_last": ("--keep-last", ""),
    "save_replay": ("--save-replay", ""),
    "tensorboard": ("--tensorboard", ""),
    "quiet": ("--quiet", ""),
    "on_rows": ("", ""),
    "loggers": ("", ""),
}
ARGUMENTS = {"seeds": "num_seeds", "init_from": "initial_policy"}  # of `run`, named otherwise


def closest(given: Any, allowed: Iterable[str]) -> str | None:
    """Return the allowed name that was most likely meant, None where nothing is like it.

    Args:
        given: what was written; case, dashes and underscores say nothing.
        allowed: the names that there are, or options such as `--num-envs`.
    """
    found = near(given, allowed, 1)
    return found[0] if found else None


def near(given: Any, allowed: Iterable[str], most: int) -> list[str]:
    """Return at most so many allowed names that may have been meant, the likeliest first."""
    word, by_word = _bare(given), {_bare(name): name for name in allowed}
    others = [ours for ours, theirs in ELSEWHERE.items() if word in theirs.split()]
    same = [name for name in (word, *others) if name in by_word]
    close = difflib.get_close_matches(word, by_word, n=most, cutoff=0.6)
    longer = [name for name in by_word if len(word) > 1 and name.startswith(word)]
    longer += [name for name in by_word if len(word) > 3 and word in name]
    return [by_word[name] for name in dict.fromkeys([*same, *close, *longer])][:most]


def nearest(given: Any, allowed: Iterable[str], lists: str = "") -> str:
    """Return `did you mean 'x'? allowed: ...`, the end of an error message.

    Args:
        given: what was written.
        allowed: the names that there are.
        lists: a command that prints them all, for where they are too many for a message.
    """
    allowed = sorted(allowed)
    first, *others = near(given, allowed, 3) or [""]
    hint = f"did you mean {first!r}? " if first else ""
    if not lists or len(allowed) <= _FEW:
        return f"{hint}allowed: {', '.join(allowed)}"
    also = f"near it are {' and '.join(others)}; " if others else ""
    return f"{hint}{also}`{lists}` lists all"


def nearest_field(given: str, fields: Iterable[str]) -> str:
    """Return the end of a message about an unknown field of a config.

    It is `nearest`'s, or says where to give what belongs to a run.
    """
    fields = list(fields)
    found = closest(given, [*fields, *(name for name in OF_A_RUN if name not in fields)])
    if found is None or found in fields:
        return nearest(given, fields)
    option, key = OF_A_RUN[found]
    places = [f"jaxrl_pg.run(config, {ARGUMENTS.get(found, found)}=...)"]
    places += [f"`jaxrl-pg train {option}`"] if option else []
    places += [f"{key} above [fixed] in an experiment file"] if key else []
    listed = f"{', '.join(places[:-1])} or {places[-1]}" if len(places) > 1 else places[0]
    hint = "" if found == given else f"did you mean {found!r}? "
    return f"{hint}it belongs to a run, not to a config: give {listed}"


def _bare(name: Any) -> str:
    """Return a name without what nobody remembers: case, and which of - and _ it has."""
    return str(name).lower().lstrip("-").replace("-", "_")
