"""One process of the benchmark: SBX's soft actor-critic, whose environments gymnasium steps.

Every environment step and the replay are NumPy's on the host; the gradient steps between two of
them are one compiled program. It compiles when it first learns, so that the seconds of compiling
are JAX's own count of them, and are taken off the first execution.
"""

from typing import Any

import timing
from sbx import SAC
from stable_baselines3.common.env_util import make_vec_env


def train(row: dict[str, Any], hyper: dict[str, Any], executions: int) -> None:
    """Time a row of the benchmark."""
    env = make_vec_env(row["env"], n_envs=row["num_envs"], seed=0)
    model = SAC(
        "MlpPolicy",
        env,
        buffer_size=row["buffer_size"],
        batch_size=hyper["batch_size"],
        learning_rate=hyper["learning_rate"],
        gamma=hyper["gamma"],
        learning_starts=hyper["learning_starts"],
        train_freq=1,
        gradient_steps=hyper["num_updates"],
        policy_kwargs={"net_arch": [64, 64]},
        seed=0,
    )
    before = timing.compiling()
    runs = [timing.elapsed(lambda: learn(model, row["timesteps"])) for _ in range(executions)]
    after = timing.compiling()
    seconds = {name: after[name] - before[name] for name in after}
    runs[0] -= seconds["lower_s"] + seconds["compile_s"]
    policy = model.policy
    facts = {
        "timesteps": row["timesteps"],
        "num_params": timing.count((policy.actor_state.params, policy.qf_state.params)),
        "obs_size": env.observation_space.shape[0],
        "num_actions": env.action_space.shape[0],
    }
    timing.say("sbx-rl", {**seconds, "run_s": runs, **facts})


def learn(model: SAC, timesteps: int) -> None:
    """Go on for so many steps; those that fill the replay are in the first call alone."""
    steps_before = model.num_timesteps
    model.learn(timesteps, reset_num_timesteps=False)
    assert model.num_timesteps - steps_before == timesteps


if __name__ == "__main__":
    told = timing.task()
    train(told["row"], told["hyper"], told["executions"])
