"""What other libraries make of time limits, seeds and stopped runs: `make peers`.

Run with the Python of a virtual environment that has the library, and its name:
`.venv-ajax/bin/python experiments/bench/peers.py ajax`; facts that are named after it are the only
ones. It trains the library's own PPO on the ring
of `probes.py` and prints what it found, a line a fact. Every fact is seen, not read in its source.
"""

import pickle
import sys
import tempfile
from collections.abc import Callable
from importlib.metadata import version
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

import probes

Facts = dict[str, Callable[[], Any]]
OBS = jnp.eye(probes.PLACES)
NUM_ENVS, NUM_STEPS = 32, 32
ITERATION = NUM_ENVS * NUM_STEPS  # 32 is no multiple of 3: an iteration ends within episodes
LONG, SHORT = 100 * ITERATION, 4 * ITERATION
RATE = 3e-3


def main() -> None:
    """Probe the library that is named."""
    # Compiling is most of the time, and speed is not asked for.
    jax.config.update("jax_disable_most_optimizations", True)
    name, *wanted = sys.argv[1:]
    for fact, find in PEERS[name]().items():
        if not wanted or fact in wanted:
            print(f"{name}, {fact}: {said(find)}", flush=True)


def said(find: Callable[[], Any]) -> str:
    """A fact, or the error that stood in its way in one line."""
    try:
        return str(find())
    except Exception as error:
        return f"{type(error).__name__}: {' '.join(str(error).split())[:160]}"


def starts(reset: Callable[..., Any], step: Callable[..., Any]) -> str:
    """Whether the episodes of one environment begin at both starts.

    Args:
        reset: `key -> state`, of 8 environments.
        step: `(key, state) -> (state, obs [8, 6], ended [8])`, with automatic resets.
    """
    state, seen = reset(jax.random.PRNGKey(0)), [set() for _ in range(8)]
    step = jax.jit(step)
    for key in jax.random.split(jax.random.PRNGKey(1), 60):
        state, obs, ended = step(key, state)
        for i in np.flatnonzero(np.asarray(ended)):
            seen[i].add(int(np.argmax(obs[i])))
    both = sum(places == {0, 3} for places in seen)
    return f"{'yes' if both == 8 else 'no'} ({both} of 8 environments)"


def same(one: Any, other: Any) -> str:
    """How far two trees of arrays are apart."""
    pairs = zip(jax.tree.leaves(one), jax.tree.leaves(other), strict=True)
    far = max(float(np.max(np.abs(np.asarray(x) - np.asarray(y)))) for x, y in pairs)
    return "bit for bit" if far == 0 else f"differs by {far:.1g}"


def ours() -> Facts:
    """This library."""
    import jaxrl_pg
    from jaxrl_pg import envs, ppo

    def config(ends: bool = False, steps: int = LONG) -> Any:
        return ppo.Config(
            env=probes.make_gymnax(ends),
            num_envs=NUM_ENVS,
            num_steps=NUM_STEPS,
            total_timesteps=steps,
            num_minibatches=4,
            num_epochs=4,
            learning_rate=RATE,
            anneal_lr=False,
            gamma=probes.DISCOUNT,
        )

    def values(config: Any, learner: Any) -> Any:
        from jaxrl_pg.components import on_policy

        return on_policy.value(config, learner, OBS)

    def learned(ends: bool) -> str:
        made = config(ends)
        return probes.meaning(values(made, train(made, jax.random.key(0)).learner))

    def train(config: Any, key: Any) -> Any:
        return jaxrl_pg.train(config, key)[0]

    def flags() -> str:
        env = envs.make(probes.make_gymnax())
        state, _ = envs.reset(env, jax.random.key(0), 8)
        for key in jax.random.split(jax.random.key(1), 3):
            state, step = envs.step(env, key, key, state, jnp.zeros(8, int))
        return f"truncated {step.truncated.all()}, terminated {step.terminated.any()}"

    def fresh() -> str:
        env = envs.make(probes.make_gymnax())

        def step(key: Any, state: Any) -> Any:
            state, seen = envs.step(env, key, jax.random.split(key)[0], state, jnp.zeros(8, int))
            return state, seen.obs, seen.terminated | seen.truncated

        return starts(lambda key: envs.reset(env, jax.random.key(0), 8)[0], step)

    def resumed() -> str:
        from jaxrl_pg.running.options import Options

        quiet, made = Options(num_evals=0, quiet=True), config(steps=2 * SHORT)
        made = made.replace(env="CartPole-v1")
        with tempfile.TemporaryDirectory() as folder:
            whole = jaxrl_pg.run(made, f"{folder}/whole", 0, quiet)
            jaxrl_pg.run(made.replace(total_timesteps=SHORT), f"{folder}/half", 0, quiet)
            again = jaxrl_pg.resume(f"{folder}/half", 2 * SHORT)
        return same(whole.state.learner.params, again.state.learner.params)

    def seeds() -> str:
        made, keys = config(steps=SHORT), jax.random.split(jax.random.key(0), 2)
        many = jax.vmap(train, (None, 0))(made, keys).learner.params
        return same(train(made, keys[1]).learner.params, jax.tree.map(lambda x: x[1], many))

    def rates() -> str:
        made, key = config(steps=SHORT), jax.random.key(0)

        def at(rate: Any) -> Any:
            return train(made.replace(learning_rate=rate), key).learner.params

        many = jax.vmap(at)(jnp.array([1e-4, 1e-3]))
        return same(at(1e-3), jax.tree.map(lambda x: x[1], many))

    return {
        "versions": lambda: f"jax {version('jax')}",
        "at the limit": flags,
        "after the last step": lambda: learned(False),
        "termination at the limit": lambda: learned(True),
        "different starts": fresh,
        "resume": resumed,
        "seeds": seeds,
        "learning rates": rates,
    }


def ajax() -> Facts:
    """Ajax, with its stacks of gymnax's and of brax's environments."""
    from ajax.agents.PPO.PPO import PPO
    from ajax.checkpoint import restore_into, save_checkpoint
    from ajax.environments import create, interaction
    from ajax.networks.networks import predict_value

    def agent(env: Any, rate: Any = RATE) -> Any:
        return PPO(
            env,
            n_envs=NUM_ENVS,
            n_steps=NUM_STEPS,
            n_epochs=4,
            num_minibatches=4,
            actor_learning_rate=rate,
            critic_learning_rate=rate,
            gamma=probes.DISCOUNT,
            actor_architecture=("64", "tanh", "64", "tanh"),
            critic_architecture=("64", "tanh", "64", "tanh"),
        )

    def values(state: Any) -> Any:
        critic = jax.tree.map(lambda x: x[0], state.critic_state)
        return predict_value(critic, critic.params, OBS).mean(0).squeeze(-1)

    def learned(env: Any) -> str:
        return probes.meaning(values(agent(env).train(seed=0, n_timesteps=LONG)[0]))

    def brax(ends: bool, n_envs: int = NUM_ENVS) -> Any:
        import brax.envs

        brax.envs.register_environment("ring", lambda **kwargs: probes.make_brax(ends))
        return create.build_env_from_id("ring", n_envs=n_envs, episode_length=probes.LIMIT)[0]

    def step(env: Any, params: Any, mode: str) -> Callable[..., Any]:
        def one(key: Any, state: Any) -> Any:
            keys = jax.random.split(key, 8) if mode == "gymnax" else key
            action = jnp.zeros(8, int) if mode == "gymnax" else jnp.zeros((8, 1))
            obs, state, _, terminated, truncated, _ = interaction.step(
                keys, state, action, env, mode, params
            )
            return state, obs, terminated, truncated

        return one

    def flags(env: Any, params: Any, mode: str) -> str:
        state = first(env, params, mode)(jax.random.PRNGKey(0))
        for key in jax.random.split(jax.random.PRNGKey(1), 3):
            state, _, terminated, truncated = step(env, params, mode)(key, state)
        return f"truncated {bool(truncated.all())}, terminated {bool(terminated.any())}"

    def first(env: Any, params: Any, mode: str) -> Callable[..., Any]:
        def reset(key: Any) -> Any:
            keys = jax.random.split(key, 8) if mode == "gymnax" else key
            return interaction.reset(keys, env, mode, params)[1]

        return reset

    def fresh(env: Any, params: Any, mode: str) -> str:
        def both(key: Any, state: Any) -> Any:
            state, obs, terminated, truncated = step(env, params, mode)(key, state)
            return state, obs, (terminated + truncated) > 0

        return starts(first(env, params, mode), both)

    def resumed() -> str:
        one = agent(probes.make_gymnax())
        whole = one.train(seed=0, n_timesteps=2 * SHORT)[0]
        half = one.train(seed=0, n_timesteps=SHORT, total_timesteps=2 * SHORT)
        with tempfile.TemporaryDirectory() as folder:
            save_checkpoint(half[0], f"{folder}/half")
            state = restore_into(one.train(seed=0, n_timesteps=0)[0], f"{folder}/half")
        rest = 2 * SHORT - int(state.collector_state.timestep[0])
        again = one.train(seed=0, n_timesteps=rest, initial_state=state)[0]
        return same(whole.actor_state.params, again.actor_state.params)

    def seeds() -> str:
        one = agent(probes.make_gymnax())
        many = one.train(seed=[0, 1], n_timesteps=SHORT)[0].actor_state.params
        alone = one.train(seed=[1], n_timesteps=SHORT)[0].actor_state.params
        return same(alone, jax.tree.map(lambda x: x[1:], many))

    def rates() -> str:
        def at(rate: Any) -> Any:
            made = agent(probes.make_gymnax(), rate)
            return made.train(seed=0, n_timesteps=SHORT)[0].actor_state.params

        many = jax.vmap(at)(jnp.array([1e-4, 1e-3]))
        return same(at(1e-3), jax.tree.map(lambda x: x[1], many))

    ring, params = probes.make_gymnax(), probes.Params()
    return {
        "versions": lambda: f"ajax-rl {version('ajax-rl')}, jax {version('jax')}",
        "at the limit": lambda: flags(ring, params, "gymnax"),
        "at the limit, brax": lambda: flags(brax(False, 8), None, "brax"),
        "after the last step": lambda: learned(ring),
        "after the last step, brax": lambda: learned(brax(False)),
        "termination at the limit": lambda: learned(probes.make_gymnax(True)),
        "termination at the limit, brax": lambda: learned(brax(True)),
        "different starts": lambda: fresh(ring, params, "gymnax"),
        "different starts, brax": lambda: fresh(brax(False, 8), None, "brax"),
        "resume": resumed,
        "seeds": seeds,
        "learning rates": rates,
    }


def jaxnasium() -> Facts:
    """jaxnasium, with its wrapper of gymnax."""
    from jaxnasium.algorithms import PPO
    from jaxnasium.wrappers import GymnaxWrapper

    def algorithm(rate: Any = RATE, steps: int = LONG) -> Any:
        return PPO(
            learning_rate_start=rate,
            gamma=probes.DISCOUNT,
            total_timesteps=steps,
            num_envs=NUM_ENVS,
            num_steps=NUM_STEPS,
            num_minibatches=4,
            num_epochs=4,
            normalize_observations=False,
            normalize_rewards=False,
            log_function=None,
        )

    def env(ends: bool = False) -> Any:
        return GymnaxWrapper(probes.make_gymnax(ends))

    def weights(agent: Any) -> Any:
        return [x for x in jax.tree.leaves(agent.actor) if hasattr(x, "dtype")]

    def learned(ends: bool) -> str:
        agent = algorithm().train(jax.random.key(0), env(ends))[0]
        return probes.meaning(jax.vmap(agent.get_value)(OBS))

    def flags() -> str:
        one, key = env(), jax.random.key(0)
        state = one.reset(key)[1]
        for _ in range(3):
            step, state = one.step(key, state, jnp.zeros((), int))
        return f"truncated {bool(step.truncated)}, terminated {bool(step.terminated)}"

    def fresh() -> str:
        one = env()

        def step(key: Any, state: Any) -> Any:
            each = jax.random.split(key, 8)
            seen, state = jax.vmap(one.step)(each, state, jnp.zeros(8, int))
            return state, seen.observation, seen.terminated | seen.truncated

        return starts(lambda key: jax.vmap(one.reset)(jax.random.split(key, 8))[1], step)

    def resumed() -> str:
        key = jax.random.key(0)
        whole = algorithm(steps=2 * SHORT).train(key, env())[0]
        half = algorithm(steps=SHORT).train(key, env())[0]
        return same(weights(whole), weights(half.train(key, env())[0]))

    def seeds() -> str:
        import equinox

        keys = jax.random.split(jax.random.key(0), 2)
        train = lambda key: algorithm(steps=SHORT).train(key, env())[0]  # noqa: E731
        many = [x[1] for x in weights(equinox.filter_vmap(train)(keys))]
        return same(weights(train(keys[1])), many)

    def rates() -> str:
        import equinox

        def at(rate: Any) -> Any:
            return algorithm(rate, SHORT).train(jax.random.key(0), env())[0]

        many = [x[1] for x in weights(equinox.filter_vmap(at)(jnp.array([1e-4, 1e-3])))]
        return same(weights(at(1e-3)), many)

    return {
        "versions": lambda: f"jaxnasium {version('jaxnasium')}, jax {version('jax')}",
        "at the limit": flags,
        "after the last step": lambda: learned(False),
        "termination at the limit": lambda: learned(True),
        "different starts": fresh,
        "resume": resumed,
        "seeds": seeds,
        "learning rates": rates,
    }


def rejax() -> Facts:
    """rejax, with gymnax 0.0.9."""
    import rejax as library

    def algorithm(ends: bool = False, steps: int = LONG) -> Any:
        return library.PPO.create(
            env=probes.make_gymnax(ends, old=True),
            env_params=probes.Params(),
            num_envs=NUM_ENVS,
            num_steps=NUM_STEPS,
            num_epochs=4,
            num_minibatches=4,
            learning_rate=RATE,
            gamma=probes.DISCOUNT,
            total_timesteps=steps,
            eval_freq=steps,
            skip_initial_evaluation=True,
        ).replace(eval_callback=lambda *_: ())

    def train(algo: Any, key: Any) -> Any:
        return algo.train(key)[0]

    def learned(ends: bool) -> str:
        algo = algorithm(ends)
        state = jax.jit(train)(algo, jax.random.PRNGKey(0))
        return probes.meaning(algo.critic.apply(state.critic_ts.params, OBS))

    def flags() -> str:
        env, key = probes.make_gymnax(old=True), jax.random.PRNGKey(0)
        state = env.reset(key)[1]
        for _ in range(3):
            step = env.step(key, state, 0)
            state = step[1]
        return f"one flag for both: done {bool(step[3])}"

    def fresh() -> str:
        env = probes.make_gymnax(old=True)

        def step(key: Any, state: Any) -> Any:
            each = jax.random.split(key, 8)
            obs, state, _, done, _ = jax.vmap(env.step)(each, state, jnp.zeros(8, int))
            return state, obs, done

        return starts(lambda key: jax.vmap(env.reset)(jax.random.split(key, 8))[1], step)

    def resumed() -> str:
        key = jax.random.PRNGKey(0)
        whole, half = algorithm(steps=2 * SHORT), algorithm(steps=SHORT)
        state = jax.jit(lambda key: train(half, key))(key)
        kept = pickle.loads(pickle.dumps(jax.tree.flatten(jax.device_get(state))[0]))
        state = jax.tree.unflatten(jax.tree.structure(state), kept)
        again = jax.jit(lambda state: half.train(train_state=state)[0])(state)
        expected = jax.jit(lambda key: train(whole, key))(key)
        return same(expected.actor_ts.params, again.actor_ts.params)

    def seeds() -> str:
        algo, keys = algorithm(steps=SHORT), jax.random.split(jax.random.PRNGKey(0), 2)
        many = jax.jit(jax.vmap(train, (None, 0)))(algo, keys).actor_ts.params
        alone = jax.jit(train)(algo, keys[1]).actor_ts.params
        return same(alone, jax.tree.map(lambda x: x[1], many))

    def rates() -> str:
        algo, key = algorithm(steps=SHORT), jax.random.PRNGKey(0)

        def at(rate: Any) -> Any:
            return train(algo.replace(learning_rate=rate), key).actor_ts.params

        many = jax.jit(jax.vmap(at))(jnp.array([1e-4, 1e-3]))
        return same(jax.jit(at)(1e-3), jax.tree.map(lambda x: x[1], many))

    return {
        "versions": lambda: (
            f"rejax {version('rejax')}, gymnax {version('gymnax')}, jax {version('jax')}"
        ),
        "at the limit": flags,
        "after the last step": lambda: learned(False),
        "termination at the limit": lambda: learned(True),
        "different starts": fresh,
        "resume": resumed,
        "seeds": seeds,
        "learning rates": rates,
    }


def brax() -> Facts:
    """Brax's own PPO and the wrappers of its training."""
    from brax.envs.wrappers import training
    from brax.training.agents.ppo import networks
    from brax.training.agents.ppo import train as ppo

    def train(ends: bool = False, steps: int = LONG, seed: Any = 0, **changes: Any) -> Any:
        settings = {"learning_rate": RATE, **changes}
        return ppo.train(
            environment=probes.make_brax(ends),
            num_timesteps=steps,
            episode_length=probes.LIMIT,
            num_envs=NUM_ENVS,
            unroll_length=NUM_STEPS,
            batch_size=NUM_ENVS // 4,
            num_minibatches=4,
            num_updates_per_batch=4,
            discounting=probes.DISCOUNT,
            normalize_observations=False,
            num_evals=1,
            run_evals=False,
            seed=seed,
            **settings,
        )[1]

    def learned(ends: bool) -> str:
        params = train(ends)
        made = networks.make_ppo_networks(probes.PLACES, 1)
        return probes.meaning(made.value_network.apply(params[0], params[2], OBS))

    def wrapped() -> Any:
        return training.wrap(probes.make_brax(), episode_length=probes.LIMIT)

    def flags() -> str:
        env = wrapped()
        state = env.reset(jax.random.split(jax.random.PRNGKey(0), 8))
        for _ in range(3):
            state = env.step(state, jnp.zeros((8, 1)))
        cut = state.info["truncation"]
        return f"truncated {bool(cut.all())}, terminated {bool((state.done * (1 - cut)).any())}"

    def fresh() -> str:
        env = wrapped()

        def step(key: Any, state: Any) -> Any:
            state = env.step(state, jnp.zeros((8, 1)))
            return state, state.obs, state.done > 0

        return starts(lambda key: env.reset(jax.random.split(key, 8)), step)

    def resumed() -> str:
        half = train(steps=SHORT)
        return same(train(steps=2 * SHORT)[1], train(steps=SHORT, restore_params=half)[1])

    def seeds() -> str:
        many = jax.vmap(lambda seed: train(steps=SHORT, seed=seed)[1])(jnp.arange(2))
        return same(train(steps=SHORT, seed=1)[1], jax.tree.map(lambda x: x[1], many))

    def rates() -> str:
        at = lambda rate: train(steps=SHORT, learning_rate=rate)[1]  # noqa: E731
        return same(at(1e-3), jax.tree.map(lambda x: x[1], jax.vmap(at)(jnp.array([1e-4, 1e-3]))))

    return {
        "versions": lambda: f"brax {version('brax')}, jax {version('jax')}",
        "at the limit": flags,
        "after the last step": lambda: learned(False),
        "termination at the limit": lambda: learned(True),
        "different starts": fresh,
        "resume": resumed,
        "seeds": seeds,
        "learning rates": rates,
    }


PEERS = {"ours": ours, "ajax": ajax, "jaxnasium": jaxnasium, "rejax": rejax, "brax": brax}

if __name__ == "__main__":
    main()
