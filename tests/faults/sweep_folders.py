"""Folders of sweeps that are finished without training, for tests of what is read from them."""

import json

from jaxrl_pg.sweeps import batch, experiment, folder

TABLE = {
    "agent": "ppo",
    "env": "CartPole-v1",
    "seeds": 3,
    "num_evals": 2,
    "num_eval_episodes": 4,
    "total_timesteps": 4 * 64,
    "fixed": {"num_envs": 8, "num_steps": 8, "num_minibatches": 1, "hidden_sizes": [8]},
    "grid": {"learning_rate": [1e-2, 1e-3]},
}


def tiny(**changes):
    return experiment.parse("tiny", {**TABLE, **changes})


def rows_of(points, num_episodes=TABLE["num_eval_episodes"]):
    """Rows as a batch leaves them: all of the first evaluation, then all of the second."""
    measured = {"return_std": 1.0, "length_mean": 9.0, "num_episodes": num_episodes, "status": "ok"}
    return [
        {**batch.described(point, steps), "return_mean": 10.0 * point.seed, **measured}
        for steps in (128, 256)
        for point in points
    ]


def part_of(points, counted=True, num_episodes=TABLE["num_eval_episodes"]):
    """Return the id and the content of a part; one of an earlier version does not count."""
    rows = rows_of(points, num_episodes)
    count = {"num_agents": len(points), "num_rows": len(rows)} if counted else {}
    part = {"group": "g", "steps_per_second": 100, **count, "rows": rows}
    return batch.batch_id([point.id for point in points]), part


def finished(place, some=None, counted=True):
    """Make the folder of a finished sweep, with a part for each half of the runs."""
    some = some or tiny()
    with folder.opened(place, some):
        half = len(some.points) // 2
        for points in (some.points[:half], some.points[half:]):
            name, part = part_of(points, counted, some.num_eval_episodes)
            (place / "parts" / f"{name}.json").write_text(json.dumps(part))
        folder.collect(place, some, 1.0)
    return place


def snapshot(place):
    """Return everything in a folder: the bytes of files, where links lead, None for folders."""
    found = {}
    for path in sorted(place.rglob("*")):
        if path.is_symlink():
            found[path] = str(path.readlink())
        elif path.name not in ("lock", "lock.owner"):
            found[path] = path.read_bytes() if path.is_file() else None
    return found
