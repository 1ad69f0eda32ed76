"""The fields that on-policy agents share."""

from __future__ import annotations

from typing import Annotated, Any, ClassVar

from jaxrl_pg.config import BaseConfig, Fraction, Positive, Range

__all__ = [
    "EpochsConfig",
    "MinibatchFields",
    "OnPolicyConfig",
    "RolloutConfig",
    "SingleStepConfig",
]


class RolloutConfig(BaseConfig):
    """Fields of every agent that learns from its newest rollout and forgets it."""

    learning_rate: Annotated[float, Positive] = 5e-4
    """Adam's step size, at the start if annealed"""
    anneal_lr: bool = True
    """let the learning rate fall linearly to 0 over total_timesteps"""
    max_grad_norm: Annotated[float, Positive] | None = 0.5
    """largest global norm of a gradient; None does not clip it"""
    normalize_obs: bool = False
    """normalise observations by their running mean and standard deviation"""
    normalize_reward: bool = False
    """divide rewards by the running standard deviation of the discounted return"""

    def check(self) -> None:
        """Refuse environments that do not split over the devices."""
        super().check()
        if self.num_envs % self.num_devices:
            raise ValueError(
                f"num_envs={self.num_envs} does not split over num_devices={self.num_devices}: "
                "give a multiple"
            )


class OnPolicyConfig(RolloutConfig):
    """Fields of every on-policy agent with a policy network."""

    ent_coef: float = 0.01
    """weight of the entropy bonus"""
    shared_torso: bool = False
    """one torso for policy and value instead of two"""
    log_std_init: Annotated[float, Range(-20.0, 10.0)] = 0.0
    """initial log standard deviation of continuous actions, whose bounds are -1 and 1; try -1 or -2
    where actions end at a bound"""


class SingleStepConfig(OnPolicyConfig):
    """Fields of agents that take one gradient step on a rollout, or on each part of a replay.

    With Box actions these need help. A mean is moved by thousands of weights, its standard
    deviation by one number, and Adam moves each of them as far; so the policy is still wide when
    the mean arrives, and what is wide gains by hiding behind a bound, where actions are clipped. If
    it goes too far beyond, all actions are the same and nothing leads back. So the deviation has a
    larger step, and the mean pays for leaving the box.

    Measured with all fields at their defaults, on rewards `-(a - target)^2` with actions in [-1, 1]
    and targets .5, .83 and -.25 (1,000,000 single steps, 4 seeds): the mean action of actor_critic,
    reinforce and off_policy_actor_critic is within .002 of each. With `std_rate=1` and
    `bound_coef=0` actor_critic ends at the bound for the first two (500,000 steps, 2 seeds).
    """

    before: ClassVar[dict[str, Any]] = {"std_rate": 1.0, "bound_coef": 0.0}

    std_rate: Annotated[float, Positive] = 10.0
    """learning rate of Box actions' log standard deviation, in units of learning_rate"""
    bound_coef: float = 1.0
    """weight of what Box actions' means pay beyond their bounds, and a spread wider than the box"""


class MinibatchFields(RolloutConfig):
    """Fields of agents that pass over a rollout several times, in minibatches."""

    num_epochs: Annotated[int, Positive] = 4
    """passes over a rollout"""
    num_minibatches: Annotated[int, Positive] = 32
    """gradient steps per pass"""

    def check(self) -> None:
        """Refuse a rollout that does not split into minibatches, or whose rows no int32 counts."""
        super().check()
        rows = self.rows_per_iteration // self.num_devices
        if rows % self.num_minibatches:
            # Of at least two rows each, and not much further than what was asked for.
            tried = range(1, max(1, min(rows // 2, 2 * self.num_minibatches)) + 1)
            even = [n for n in tried if rows % n == 0]
            near = sorted(sorted(even, key=lambda n: abs(n - self.num_minibatches))[:2])
            steps = f"num_envs={self.num_envs} x num_steps={self.num_steps}"
            if self.rows_per_iteration != self.steps_per_iteration:
                steps = f"num_envs={self.num_envs} (with a core a row is an environment's sequence)"
            raise ValueError(
                f"{steps} does not split into num_minibatches={self.num_minibatches} on "
                f"num_devices={self.num_devices}: give an even split, such as num_minibatches="
                f"{' or '.join(map(str, near))}"
            )
        if self.steps_per_iteration * self.num_epochs >= 2**31:
            raise ValueError(
                f"num_envs={self.num_envs} x num_steps={self.num_steps} x "
                f"num_epochs={self.num_epochs} is beyond the 2^31 rows that can be indexed: "
                "lower one of them"
            )


class EpochsConfig(MinibatchFields, OnPolicyConfig):
    """Fields of agents that fit a policy network to a rollout's advantages, in minibatches."""

    gae_lambda: Annotated[float, Fraction] = 0.95
    """decay of the advantage estimate's trace"""
