"""Pure mathematics: arrays in, arrays out, time first. No network, environment or config.

    returns         advantages and returns of rollouts: GAE, n steps, Monte Carlo
    off_policy_returns  the same from another policy's steps: importance ratios, V-trace
    losses          policy gradient, PPO's clipped surrogate, value losses, diagnostics
    distributions   categorical and normal policies; tanh of a normal
    full_normal     normal policies with a full covariance
    joint_actions   joint actions of several players as digits of one number
    metric_names    which metrics must stay finite
    closed_form     the analytical update pi exp(A / C) / Z, and the choice of C
    reps            relative entropy policy search: weights, temperature, dual
    mixture         geometric mixtures of two policies
    soft            maximum-entropy values, targets and losses
    stein           Stein variational gradient descent of particles towards a density
    exploration     epsilon-greedy policies, durations of random actions
    trust_region    Fisher products, conjugate gradient, line search
    batching        shuffled minibatches; means over pieces of a batch
    running_stats   mean and variance of a stream of batches
    collectives     one batch on several devices

Functions are pure and can be jitted, vmapped and differentiated. Shapes are checked while a
function is traced, which costs nothing when it runs; a wrong one raises an AssertionError.
"""

from types import ModuleType

from jaxrl_pg.lazy import submodule


def __getattr__(name: str) -> ModuleType:
    return submodule(__name__, name)
