"""The agents and configurations that every contract test runs over.

To put a new agent under the contract, add its rows to `CASES`.
"""

from functools import cached_property
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from corridor import CORRIDOR
from jaxrl_pg import agents, envs
from jaxrl_pg.training import program
from programs import EPOCHS, SMALL, SMALL_REPLAY

NUM_ITERATIONS = 4
SIZES = {**SMALL, "total_timesteps": 200}  # three iterations of 64 and a bit: four
CARTPOLE = {**SIZES, **EPOCHS, "env": "CartPole-v1"}
# Episodes of five steps, so that this many are cut off by the time limit within a rollout.
CUT = {"env": "Pendulum-v1", "env_params": {"max_steps_in_episode": 5.0}}
PENDULUM = {**SIZES, **EPOCHS, **CUT}
OFF_POLICY = {**SMALL_REPLAY, **SIZES}


class Case(NamedTuple):
    """One configuration of one agent, and other values of floats that must matter to it."""

    agent: str
    values: dict[str, Any]
    floats: dict[str, float]

    def config(self, **changes):
        return agents.AGENTS[self.agent].Config(**{**self.values, **changes})


CASES = {
    "ppo-discrete": Case(
        "ppo",
        CARTPOLE,
        {
            "learning_rate": 0.003,
            "gamma": 0.9,
            "gae_lambda": 0.5,
            "ent_coef": 0.1,
            "clip_eps": 0.02,
        },
    ),
    "ppo-continuous": Case(
        "ppo", PENDULUM, {"learning_rate": 0.003, "gamma": 0.9, "log_std_init": -1.0}
    ),
    "ppo-kl-shared": Case(
        "ppo",
        {**PENDULUM, "objective": "kl", "shared_torso": True},
        {"penalty_kl": 1e-4, "vf_coef": 0.1},
    ),
    "ppo-normalized-stopping": Case(
        "ppo",
        {
            **PENDULUM,
            "normalize_obs": True,
            "normalize_reward": True,
            "target_kl": 0.01,
            "clip_eps_vf": 0.2,
            "anneal_lr": False,
        },
        {"gamma": 0.5, "target_kl": 1e-6, "clip_eps_vf": 0.01},
    ),
    "ppo-image": Case(
        "ppo",
        {**SIZES, **EPOCHS, "env": "Breakout-MinAtar", "conv_features": 2},
        {"max_grad_norm": 1e-4},
    ),
    "ppo-memory": Case(
        "ppo",
        {**PENDULUM, "core": "lstm", "core_size": 4, "normalize_obs": True},
        {"learning_rate": 0.003, "gamma": 0.9},
    ),
    "analytical-memory-masked": Case(
        "analytical",
        {**SIZES, **EPOCHS, "env": CORRIDOR, "core": "gru", "core_size": 4, "normalize_obs": True},
        {"kl_target": 1.0, "gamma": 0.5},
    ),
    "actor-critic-memory": Case(
        "actor_critic",
        {**SIZES, **CUT, "env": "CartPole-v1", "core": "gru", "core_size": 4},
        {"learning_rate": 0.003, "gamma": 0.9},
    ),
    "sac-masked-stacked": Case(
        "sac",
        {**OFF_POLICY, "env": CORRIDOR, "frame_stack": 2, "conv_features": 2},
        {"gamma": 0.5, "tau": 0.5},
    ),
    "actor-critic-discrete": Case(
        "actor_critic",
        {**SIZES, "env": "CartPole-v1", "normalize_advantage": True},
        {"learning_rate": 0.003, "gamma": 0.9, "gae_lambda": 0.5, "ent_coef": 1.0},
    ),
    "actor-critic-online": Case(
        "actor_critic",
        {
            **SIZES,
            **CUT,
            "target": "td0",
            "online": True,
            "normalize_obs": True,
        },
        {"learning_rate": 0.003, "gamma": 0.5, "vf_coef": 0.01, "std_rate": 1.0},
    ),
    "reinforce-discrete": Case(
        "reinforce",
        {
            **SIZES,
            **CUT,
            "env": "CartPole-v1",
            "discount": "from_start",
            "baseline": "optimal",
        },
        {"learning_rate": 0.003, "gamma": 0.3, "ent_coef": 1.0},
    ),
    "reinforce-continuous": Case(
        "reinforce",
        {
            **SIZES,
            **CUT,
            "entropy_in_return": True,
            "normalize_reward": True,
        },
        {"gamma": 0.5, "ent_coef": 1.0, "vf_coef": 0.01, "std_rate": 1.0},
    ),
    "natural-gradient-discrete": Case(
        "natural_gradient",
        {**CARTPOLE, "method": "npg"},
        {"learning_rate": 0.003, "gamma": 0.9, "max_kl": 0.001, "cg_damping": 0.5},
    ),
    "natural-gradient-continuous": Case(
        "natural_gradient",
        {**PENDULUM, "method": "trpo", "fisher_stride": 2},
        {"gae_lambda": 0.5, "max_kl": 0.03, "ent_coef": 0.1},
    ),
    "off-policy-actor-critic-discrete": Case(
        "off_policy_actor_critic",
        {**SIZES, "env": "CartPole-v1", "buffer_size": 150, "replay_ratio": 3, "rho_clip": 2.0},
        {"gamma": 0.9, "gae_lambda": 0.5, "rho_clip": 0.1, "c_clip": 0.1},
    ),
    "off-policy-actor-critic-continuous": Case(
        "off_policy_actor_critic",
        {
            **SIZES,
            **CUT,
            "buffer_size": 150,
            "replay_ratio": 3,
            "correction": "importance",
            "critic": "gradient_td",
            "normalize_obs": True,
            "normalize_reward": True,
        },
        {"learning_rate": 0.003, "ent_coef": 1.0, "behaviour_epsilon": 0.5, "std_rate": 1.0},
    ),
    "sac-discrete": Case(
        "sac",
        {
            **OFF_POLICY,
            "env": "CartPole-v1",
            "policy_loss": "kl_projection",
            "policy_delay": 2,
        },
        {"learning_rate": 0.003, "gamma": 0.9, "tau": 0.5, "target_entropy_ratio": 1.0},
    ),
    "sac-continuous": Case(
        "sac",
        {
            **OFF_POLICY,
            **CUT,
            "variant": "value",
            "learn_alpha": False,
            "value_learning_rate": 0.01,
            "policy_learning_rate": 0.01,
        },
        {
            "gamma": 0.5,
            "alpha": 0.1,
            "noise_correlation": 0.9,
            "value_learning_rate": 0.003,
            "policy_learning_rate": 0.003,
            "reward_scale": 3.0,
        },
    ),
    "analytical-discrete": Case(
        "analytical",
        {**CARTPOLE, "target": "all_actions", "step_size": "scheduled"},
        {"learning_rate": 0.003, "gamma": 0.9, "c_start": 0.1, "correction_clip": 0.0},
    ),
    "analytical-continuous": Case(
        "analytical",
        {**PENDULUM, "normalize_reward": True, "prior_coef": 0.1},
        {"gae_lambda": 0.5, "kl_target": 1.0, "std_coef": 30.0, "prior_coef": 0.9},
    ),
    "analytical-replay-discrete": Case(
        "analytical_replay",
        {**OFF_POLICY, "env": "CartPole-v1", "policy_period": 2},
        {"gamma": 0.9, "tau": 0.5, "kl_target": 1.0, "ent_coef": 1.0},
    ),
    "analytical-replay-continuous": Case(
        "analytical_replay",
        {
            **OFF_POLICY,
            **CUT,
            "step_size": "scheduled",
            "policy_period": 2,
            "num_actions_sampled": 4,
        },
        {"gamma": 0.5, "c_start": 0.1, "std_coef": 30.0},
    ),
    "analytical-v-mpo": Case(
        "analytical",
        {**PENDULUM, "weighting": "top_half", "trust": "multipliers"},
        {"kl_target": 1.0},
    ),
    "analytical-mdpo-masked": Case(
        "analytical",
        {
            **SIZES,
            **EPOCHS,
            "env": CORRIDOR,
            "step_size": "annealed_step",
            "projection": "reverse",
            "normalize_advantage": True,
        },
        {"temperature": 30.0, "gae_lambda": 0.5},
    ),
    "analytical-replay-crr": Case(
        "analytical_replay",
        {
            **OFF_POLICY,
            "env": CORRIDOR,
            "policy_period": 2,
            "step_size": "fixed",
            "weighting": "clipped",
            "trust": "multipliers",
        },
        {"temperature": 0.01, "weight_clip": 1.1},
    ),
    "multi-agent": Case(
        "multi_agent",
        {**CARTPOLE, "factors": (1, 2), "step_size": "scheduled", "normalize_obs": True},
        {"learning_rate": 0.003, "gamma": 0.9, "c_start": 0.1, "correction_clip": 0.0},
    ),
    "multi-agent-local": Case(
        "multi_agent",
        {**CARTPOLE, "factors": (2, 1), "views": (3, 1), "order": "simultaneous"},
        {"learning_rate": 0.003, "gamma": 0.9, "kl_target": 0.5},
    ),
    "reps-discrete": Case(
        "reps",
        # Poles that fall at once: where nothing ends, V's mean is free and follows rounding.
        {**CARTPOLE, "critic_epochs": 2, "env_params": {"theta_threshold_radians": 0.06}},
        {"learning_rate": 0.003, "gamma": 0.9, "kl_target": 1.0, "gae_lambda": 0.9},
    ),
    "reps-continuous": Case(
        "reps",
        {**PENDULUM, "critic_epochs": 2, "critic": "returns", "normalize_reward": True},
        {"gae_lambda": 0.5, "kl_target": 1.0, "std_coef": 30.0},
    ),
    "soft-q-learning": Case(
        "soft_q_learning",
        {**OFF_POLICY, "env": "CartPole-v1"},
        {"gamma": 0.9, "alpha": 1.0, "tau": 0.5},
    ),
    "td3": Case(
        "td3",
        {**OFF_POLICY, **CUT, "policy_learning_rate": 0.01},
        {
            "gamma": 0.5,
            "policy_learning_rate": 0.003,
            "exploration_noise": 0.5,
            "target_policy_noise": 1.0,
        },
    ),
    "ddpg": Case(
        "ddpg",
        {**OFF_POLICY, **CUT},
        {"learning_rate": 0.003, "tau": 0.5, "noise_correlation": 0.9},
    ),
    "soft-q-learning-continuous": Case(
        "soft_q_learning",
        {**OFF_POLICY, **CUT, "num_particles": 8},
        {"gamma": 0.9, "alpha": 1.0, "tau": 0.5},
    ),
    "pqn": Case(
        "pqn",
        {**CARTPOLE, "normalize_obs": True, "normalize_reward": True, "epsilon_end": 0.2},
        {"learning_rate": 0.003, "gamma": 0.5, "q_lambda": 0.0, "epsilon_start": 0.3},
    ),
    "dqn": Case(
        "dqn",
        {
            **OFF_POLICY,
            "env": "CartPole-v1",
            "double_q": True,
            "target_period": 3,
            "epsilon_end": 0.2,
            "n_step": 3,
            "duration_mu": 2.0,
        },
        {"gamma": 0.9, "tau": 0.5, "exploration_fraction": 1.0, "duration_mu": 1.2},
    ),
}


class Contract:
    """A case with its four compiled programs; results are kept, so tests share them.

    Attributes:
        init: the agent's.
        iterations: see `_iterations`.
        batched: training of several rows at once.
        acting: everything that is asked of a trained agent's `act` and `value`.
        traces: how often each was traced.
        rows: configs that differ in one float, or in the seed, with their keys.
    """

    def __init__(self, name):
        self.name, self.case = name, CASES[name]
        self.config = self.case.config()
        self.agent = agents.AGENTS[self.case.agent]
        self.spec = envs.of(self.config).spec
        self.key = jax.random.key(0)
        self.traces: dict[str, int] = {}
        self.init = self._compile("init", self.agent.init)
        self.iterations = self._compile("iterations", self._iterations)
        self.batched = self._compile("batched", jax.vmap(program.train))
        self.acting = self._compile("acting", self._acting)
        self.rows = {"base": (self.config, self.key), "seed": (self.config, jax.random.key(1))}
        for field, value in self.case.floats.items():
            self.rows[field] = (self.config.replace(**{field: value}), self.key)

    def _compile(self, name, fn):
        """`fn`, compiled; `traces[name]` says how often it was traced."""

        def traced(*args):
            self.traces[name] = self.traces.get(name, 0) + 1
            return fn(*args)

        return jax.jit(traced)

    def _iterations(self, config, state, num_iterations):
        """Any number of iterations up to `NUM_ITERATIONS`, in one program.

        Returns the state, and metrics `[NUM_ITERATIONS]` that are 0 for iterations not asked for.
        """
        _, shapes = jax.eval_shape(self.agent.iterate, config, state)

        def body(i, carry):
            state, metrics = carry
            state, new = self.agent.iterate(config, state)
            return state, jax.tree.map(lambda x, one: x.at[i].set(one), metrics, new)

        metrics = jax.tree.map(lambda x: jnp.zeros((NUM_ITERATIONS, *x.shape), x.dtype), shapes)
        return jax.lax.fori_loop(0, num_iterations, body, (state, metrics))

    def _acting(self, config, learner, obs, keys):
        """Actions for either key, greedy and drawn; greedy for one observation alone; values."""
        memory = self.agent.memory
        num = jax.tree.leaves(obs)[0].shape[0]
        hidden = memory.start(config, num) if memory else ()
        act, value, one = self.agent.act, self.agent.value, jax.tree.map(lambda x: x[:1], obs)
        rest, rest_of_one = (), ()
        if jax.tree.leaves(hidden):
            hidden = jax.tree.map(
                lambda x: x + jnp.linspace(-1, 1, x.size).reshape(x.shape), hidden
            )
            rest, rest_of_one = (hidden,), (jax.tree.map(lambda x: x[:1], hidden),)
            value = memory.value

            def act(*args):
                return memory.act(*args)[0]

        return {
            "greedy": [act(config, learner, obs, key, True, *rest) for key in keys],
            "drawn": [act(config, learner, obs, key, False, *rest) for key in keys],
            "alone": act(config, learner, one, keys[0], True, *rest_of_one),
            "value": value(config, learner, obs, *rest),
        }

    @cached_property
    def start(self):
        return self.init(self.config, self.key)

    @cached_property
    def singles(self):
        """Every row trained alone, one after the other: its state and its metrics."""
        return [
            self.iterations(config, self.init(config, key), NUM_ITERATIONS)
            for config, key in self.rows.values()
        ]

    def train_together(self):
        """All rows trained at once, by `vmap` over the config's leaves and the keys."""
        configs, keys = zip(*self.rows.values(), strict=True)
        config = jax.tree.map(lambda *x: jnp.stack([jnp.float32(v) for v in x]), *configs)
        return self.batched(config, jnp.stack(keys))

    @cached_property
    def together(self):
        return self.train_together()

    @cached_property
    def trained(self):
        """Learner and metrics of the first of them, as NumPy's arrays."""
        state, metrics = self.together
        return jax.tree.map(lambda x: x[0], jax.device_get((state.learner, metrics)))

    @cached_property
    def acts(self):
        """What the trained agent does, and thinks of, 64 random observations."""
        blank = envs.observations.blank(self.spec.obs_shape, 64)
        obs = jax.tree.map(
            lambda x: x if x.dtype == bool else jax.random.normal(jax.random.key(3), x.shape), blank
        )
        keys = self.key, jax.random.key(9)
        return self.acting(self.config, self.trained[0], obs, keys)
