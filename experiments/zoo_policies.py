"""Train the policies that come with the zoo.

    .venv/bin/python experiments/zoo_policies.py                  all that there are not yet
    .venv/bin/python experiments/zoo_policies.py CartPole-v1/ppo  these

Each has its entry's settings but smaller networks, so that its file is small. Of `SEEDS` runs the
best in 1,000 greedy episodes is kept. The entry says what it reaches in 10,000 others.
"""

import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import jax
import numpy as np
import zoo_entries

import jaxrl_pg
from jaxrl_pg import files, zoo
from jaxrl_pg.running import history
from jaxrl_pg.running.trained_policy import Policy

SEEDS = range(4)
NUM_EPISODES = 10_000
SMALL: dict[str, Any] = {"hidden_sizes": [16, 16]}
SMALL_CORE: dict[str, Any] = {"hidden_sizes": [16], "core_size": 16}
# By environment and agent: how the policy's config differs from the entry's.
POLICIES: dict[tuple[str, str], dict[str, Any]] = {
    ("CartPole-v1", "ppo"): SMALL,
    ("CartPole-v1", "analytical"): SMALL,
    ("CartPole-v1", "pqn"): SMALL,
    ("Acrobot-v1", "ppo"): SMALL,
    ("Acrobot-v1", "natural_gradient"): SMALL,
    ("MountainCar-v0", "ppo"): SMALL,
    # With 16 three of four seeds ended at -199 or below.
    ("MountainCar-v0", "dqn"): {"hidden_sizes": [32, 32]},
    ("Pendulum-v1", "ppo"): SMALL,
    ("Pendulum-v1", "sac"): SMALL,
    ("MountainCarContinuous-v0", "ppo"): SMALL,
    ("Catch-bsuite", "ppo"): SMALL,
    ("MemoryChain-bsuite", "ppo"): SMALL_CORE,
    ("TMaze", "ppo"): SMALL_CORE,
}


def train(entry: zoo.Entry, changes: dict[str, Any]) -> dict[str, Any]:
    """Train the policy of an entry, write its arrays, and return what the entry says of it."""
    words = [f"train {entry.agent} --env {entry.env} --tuned"]
    for name, value in changes.items():
        given = " ".join(map(str, value)) if isinstance(value, list) else value
        words.append(f"--{name.replace('_', '-')} {given}")
    command = " ".join(words)
    with tempfile.TemporaryDirectory() as folder:
        found = {seed: _run(command, seed, Path(folder) / str(seed)) for seed in SEEDS}
    means = {
        seed: float(policy.evaluate(jax.random.key(1), 1_000).mean())
        for seed, policy in found.items()
    }
    seed = max(means, key=lambda seed: means[seed])
    policy = found[seed]
    returns = np.asarray(policy.evaluate(jax.random.key(2), NUM_EPISODES))
    zoo.pretrained.write(zoo.pretrained.place(entry), policy.config, policy.state)
    print(entry.policy, {seed: round(mean, 2) for seed, mean in means.items()}, flush=True)
    return {
        "settings": changes,
        "seed": seed,
        "command": f"jaxrl-pg {command} --seed {seed}",
        "num_episodes": NUM_EPISODES,
        "return_mean": float(f"{returns.mean():.6g}"),
        "return_std": float(f"{returns.std():.6g}"),
        "return_min": float(f"{returns.min():.6g}"),
        "versions": history.versions([entry.env]),
    }


def _run(command: str, seed: int, folder: Path) -> Policy:
    """Train one seed by its command, and load what it has learned."""
    cli = [sys.executable, "-m", "jaxrl_pg.cli", *command.split()]
    subprocess.run([*cli, "--seed", str(seed), "--run-dir", folder, "--quiet"], check=True)
    return jaxrl_pg.load(folder)


def main() -> None:
    """Train what is asked for."""
    wanted = {f"{zoo.PREFIX}{name}" for name in sys.argv[1:]}
    for (env, agent), changes in POLICIES.items():
        try:
            entry = zoo.find(env, agent)
        except ValueError as error:
            print(error)
            continue
        if entry.policy in wanted or (not wanted and entry.pretrained is None):
            said = train(entry, changes)
            old = entry.path.read_text(encoding="utf-8").partition("\n[pretrained]\n")[0]
            new = f"{old.rstrip()}\n\n[pretrained]\n{zoo_entries.pairs(said)}"
            files.write_atomic(entry.path, new)
    zoo_entries.write()


if __name__ == "__main__":
    main()
