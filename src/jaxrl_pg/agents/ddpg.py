"""Deep deterministic policy gradient (DDPG: Lillicrap et al. 2016, arXiv 1509.02971).

DDPG is TD3 with one critic, a policy step after every critic step, and no noise in the target:

    J_Q = (Q - r - gamma Q'(s', mu'(s')))^2 / 2,    grad J_mu = E_s[ grad mu(s) grad_a Q(s, mu(s)) ]

their algorithm 1 and equations 5 and 6. So this module is TD3's functions with other defaults; see
`jaxrl_pg.agents.td3` for the algorithm, and for the process of the paper's exploration in terms of
`exploration_noise` and `noise_correlation`. By default noise is independent from step to step, as
in most of the field. The paper's rates are `policy_learning_rate=1e-4` and `learning_rate=1e-3`;
here both are 1e-3 by default. Its batch normalisation and weight decay are left out
(`optimizer=optax.adamw` has the latter).
"""

from __future__ import annotations

from typing import Annotated

from jaxrl_pg.agents import td3
from jaxrl_pg.agents.td3 import Learner, Params, act, adopt, init, iterate, value
from jaxrl_pg.config import Positive
from jaxrl_pg.types import Agent

__all__ = ["AGENT", "Config", "Learner", "Params", "act", "adopt", "init", "iterate", "value"]


class Config(td3.Config):
    """Hyper-parameters of DDPG: those of TD3 with other defaults."""

    num_critics: Annotated[int, Positive] = 1
    """Q networks, of which the least value counts in the target"""
    policy_delay: Annotated[int, Positive] = 1
    """critic steps before each step of the policy and of the target networks"""
    target_policy_noise: float = 0.0
    """standard deviation of the noise on the target policy's actions"""


AGENT = Agent("ddpg", Config, init, iterate, act, value, adopt=adopt, actions="Box")
