"""Learning gates: ten seeds on real environments, interquartile mean with a bootstrap interval.

Each row trains its ten seeds in one compiled program and evaluates deterministically at the end
(128 whole episodes a seed). A gate holds the interquartile mean of the ten means against a level
that its agent is known to reach; seeds are fixed, so the outcome is too (on one kind of machine).
`python tests/learn/test_learning.py` prints the table of the README.
"""

import pytest
from gates import Gate, measured, show

from jaxrl_pg import (
    actor_critic,
    analytical,
    natural_gradient,
    off_policy_actor_critic,
    ppo,
    reinforce,
    reps,
)

GATES = {
    "CartPole-v1": Gate(ppo.Config(env="CartPole-v1", total_timesteps=500_000), 490.0),
    "Acrobot-v1": Gate(
        ppo.Config(env="Acrobot-v1", total_timesteps=500_000, learning_rate=1e-3), -85.0
    ),
    "Pendulum-v1": Gate(
        ppo.Config(
            env="Pendulum-v1",
            total_timesteps=1_000_000,
            num_steps=64,
            num_epochs=10,
            learning_rate=1e-3,
            gamma=0.95,
            ent_coef=0.0,
            normalize_reward=True,
        ),
        -250.0,
    ),
    "Breakout-MinAtar": Gate(
        ppo.Config(
            env="Breakout-MinAtar",
            total_timesteps=1_000_000,
            num_steps=128,
            num_minibatches=8,
            learning_rate=5e-3,
            activation="relu",
            conv_features=0,  # a CPU trains the flattened image several times as fast
        ),
        10.0,
    ),
    "CartPole-v1, actor_critic": Gate(
        actor_critic.Config(env="CartPole-v1", total_timesteps=500_000), 490.0
    ),
    "Acrobot-v1, actor_critic": Gate(
        actor_critic.Config(env="Acrobot-v1", total_timesteps=500_000, normalize_reward=True),
        -90.0,
    ),
    "CartPole-v1, off_policy_actor_critic": Gate(
        off_policy_actor_critic.Config(
            env="CartPole-v1", total_timesteps=500_000, normalize_reward=True
        ),
        490.0,
    ),
    "CartPole-v1, reinforce": Gate(
        reinforce.Config(env="CartPole-v1", total_timesteps=1_000_000), 450.0
    ),
    "CartPole-v1, natural_gradient": Gate(
        natural_gradient.Config(env="CartPole-v1", total_timesteps=500_000), 490.0
    ),
    "CartPole-v1, analytical": Gate(
        analytical.Config(env="CartPole-v1", total_timesteps=500_000), 490.0
    ),
    "Acrobot-v1, analytical": Gate(
        analytical.Config(
            env="Acrobot-v1", total_timesteps=500_000, learning_rate=1e-3, kl_target=0.3
        ),
        -85.0,
    ),
    "Pendulum-v1, analytical": Gate(
        analytical.Config(
            env="Pendulum-v1",
            total_timesteps=1_000_000,
            num_steps=64,
            num_epochs=10,
            learning_rate=1e-3,
            gamma=0.95,
            ent_coef=0.0,
            normalize_reward=True,
        ),
        -200.0,
    ),
    "CartPole-v1, reps": Gate(reps.Config(env="CartPole-v1", total_timesteps=500_000), 490.0),
    "Pendulum-v1, reps": Gate(
        reps.Config(
            env="Pendulum-v1",
            total_timesteps=1_000_000,
            num_steps=64,
            num_epochs=10,
            learning_rate=1e-3,
            gamma=0.95,
            ent_coef=0.0,
            normalize_reward=True,
        ),
        -200.0,
    ),
    "Acrobot-v1, natural_gradient": Gate(
        natural_gradient.Config(env="Acrobot-v1", total_timesteps=500_000), -80.0
    ),
}


@pytest.mark.slow
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("name", GATES)
def test_interquartile_mean_reaches_the_level(name, optimised):
    assert measured(name, GATES[name], optimised) >= GATES[name].level


if __name__ == "__main__":
    show(GATES)
