"""Kill runs where it hurts, resume them, and compare with runs that nothing disturbed.

    .venv/bin/python tools/torture.py --kills 5                     every agent, every site
    .venv/bin/python tools/torture.py --agents ppo sac --sites save deletion --seed 1
    .venv/bin/python tools/torture.py --agents --sweep-kills 20     the sweep alone

Runs are started by the command line, as a user starts them. Each agent is trained twice without
disturbance, which must give the same. Then it is trained and ended at one of the sites of `SITES`,
and resumed to the end. Every array of its last checkpoint (parameters, optimiser, replay,
environments, keys) must have the same bits, and metrics.jsonl the same rows but for their seconds.
A sweep is killed again and again until it is through; results.csv must have the same bytes.

Each cell of the table that is printed says: ended / resumed to the end / equal. What fails is
described below it and kept in its folder, and the exit code is 1.
"""

import argparse
import collections
import itertools
import platform
import random
import shutil
import signal
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from importlib.metadata import version
from pathlib import Path
from typing import NamedTuple

from torture_runs import AGENTS, PATIENCE, Run, at_name, at_row, end, wait_until

EXPERIMENT = """
agent = ["ppo", "reinforce"]
env = "CartPole-v1"
seeds = 2
num_evals = 10
num_eval_episodes = 4
total_timesteps = 16_000
[fixed]
num_envs = 4
num_steps = 8
hidden_sizes = [16]
[grid]
learning_rate = [1e-3, 1e-2]
"""
TRIES = 5  # to end a process at a site that it may rush past


class Trial(NamedTuple):
    """What became of one run that was ended.

    Attributes:
        ended: whether it was ended at the site at all, in `TRIES` tries.
        resumed: whether it was then trained to its end, without an error.
        equal: whether it ended as the run that nothing disturbed.
        notes: what went wrong, and where it can be seen.
    """

    ended: bool
    resumed: bool
    equal: bool
    notes: str


class Site(NamedTuple):
    """Where and how a run is ended.

    Attributes:
        where: start, rows, save, deletion, any, resume, or limit.
        signal: what is sent there.
        codes: exit codes that are right.
    """

    where: str
    signal: int
    codes: tuple[int, ...]


KILLED = (-signal.SIGKILL,)
SITES = {
    "start-up": Site("start", signal.SIGKILL, KILLED),
    "training": Site("rows", signal.SIGKILL, KILLED),
    "save": Site("save", signal.SIGKILL, KILLED),
    "deletion": Site("deletion", signal.SIGKILL, KILLED),
    "resume": Site("resume", signal.SIGKILL, KILLED),
    "SIGTERM": Site("any", signal.SIGTERM, (143, -signal.SIGTERM)),
    "SIGINT": Site("any", signal.SIGINT, (130, -signal.SIGINT)),
    "full disk": Site("limit", 0, (3,)),
}


class Reference(NamedTuple):
    """A run that nothing disturbed, and when it had its first row and its end, in seconds."""

    run: Run
    first_row: float
    total: float


def ended_at(
    site: Site, run: Run, reference: Reference, rng: random.Random
) -> tuple[int | None, str]:
    """Train and end the run at a site.

    Returns:
        The exit code, None if the process was through before; and what was wrong with it.
    """
    num_rows = reference.run.num_rows()
    if site.where == "limit":
        most = max(p.stat().st_size for p in reference.run.folder.rglob("*") if p.is_file())
        code = run.first_limited(rng.randrange(1, most // 512))
        lines = run.said()
        return (code or None), ("" if len(lines) == 1 else f"said {len(lines)} lines")
    process = run.first()
    if site.where == "resume":
        if at_row(run, process, rng, num_rows):
            end(process, signal.SIGKILL)
        process.wait()
        process = run.again()
    if site.where in ("start", "resume"):
        time.sleep(rng.uniform(0, reference.first_row))
    elif site.where == "any":
        time.sleep(rng.uniform(0, reference.total))
    elif site.where == "rows":
        at_row(run, process, rng, num_rows)
    else:
        at_name(
            run, process, rng, {"save": "orbax-checkpoint-tmp", "deletion": ".deleted"}[site.where]
        )
    if process.poll() is not None:
        return None, ""
    code = end(process, site.signal)
    traceback = any("Traceback" in line for line in run.said())
    return code, "a traceback" if traceback else ""


def trial(name: str, number: int, reference: Reference, folder: Path, seed: int) -> Trial:
    """End a run at a site, resume it to its end, and compare."""
    agent, site = reference.run.agent, SITES[name]
    rng = random.Random(f"{seed} {agent} {name} {number}")
    for _ in range(TRIES):
        run = Run(agent, folder / f"{agent}-{name}-{number}".replace(" ", "-"), reference.run.cache)
        shutil.rmtree(run.folder, ignore_errors=True)
        run.log.unlink(missing_ok=True)
        code, wrong = ended_at(site, run, reference, rng)
        if code is not None:
            break
    else:
        return Trial(False, False, False, "")
    notes = [wrong] if wrong else []
    if code not in site.codes:
        notes.append(f"exit code {code}")
    process = run.again()
    resumed = process.wait(PATIENCE) == 0
    if not resumed:
        notes.append(f"resume: exit code {process.returncode}: {(run.said() or [''])[-1]}")
    different = run.difference(reference.run) if resumed else ""
    notes += [different] if different else []
    if notes:
        notes.append(f"see {run.log}")
    else:
        shutil.rmtree(run.folder)
        run.log.unlink()
    return Trial(True, resumed, resumed and not different, "; ".join(notes))


def undisturbed(agent: str, folder: Path, cache: Path) -> Reference:
    """Train twice; the second finds its programs compiled, as do the runs that are ended."""
    runs = [Run(agent, folder / f"reference-{agent}-{i}", cache) for i in range(2)]
    for run in runs:
        began = time.monotonic()
        process = run.first()
        wait_until(process, lambda run=run: run.num_rows() > 0)
        first_row = time.monotonic() - began
        if process.wait(PATIENCE):
            raise SystemExit(f"{agent} does not train: see {run.log}")
    total = time.monotonic() - began
    if different := runs[1].difference(runs[0]):
        raise SystemExit(f"{agent}, trained twice: {different}; see {folder}")
    return Reference(runs[1], first_row, total)


def torture_agent(
    agent: str, sites: list[str], kills: int, seed: int, folder: Path
) -> dict[str, list[Trial]]:
    """Run the trials of one agent, one after the other."""
    reference = undisturbed(agent, folder, folder / "cache")
    trials: dict[str, list[Trial]] = {}
    for number, name in itertools.product(range(kills), sites):
        result = trial(name, number, reference, folder, seed)
        trials.setdefault(name, []).append(result)
        note = f": {result.notes}" if result.notes else "" if result.ended else ": not ended there"
        print(f"{agent}, {name} {number + 1}/{kills}{note}", file=sys.stderr, flush=True)
    return trials


def torture_sweep(kills: int, seed: int, folder: Path) -> Trial:
    """Kill a sweep at random moments, as often as asked, then let it end."""
    file, rng = folder / "torture.toml", random.Random(seed)
    file.write_text(EXPERIMENT)
    table, whole = [], 0.0
    for name in ("reference-sweep", "sweep"):
        run = Run("", folder / name, folder / "cache")
        options = ["--checkpoint-seconds", "0.2", "--max-agents", "2", "--quiet"]
        words = ["sweep", str(file), "--run-dir", str(run.folder), *options]
        for _ in range(kills if table else 0):
            process = run.start(words)
            time.sleep(rng.uniform(0.3, 1.0) * whole)
            end(process, signal.SIGKILL)
        began = time.monotonic()
        if run.start(words).wait(PATIENCE):
            return Trial(True, False, False, f"{name}: see {run.log}")
        whole = time.monotonic() - began
        table.append((run.folder / "results.csv").read_bytes())
    equal = table[0] == table[1]
    return Trial(True, True, equal, "" if equal else f"results.csv differs: see {folder}")


def cell(trials: list[Trial]) -> str:
    """Count trials as ended/resumed/equal; a dash if none was ended."""
    counts = [sum(getattr(t, name) for t in trials) for name in ("ended", "resumed", "equal")]
    return "/".join(map(str, counts)) if counts[0] else "-"


def table(results: dict[str, dict[str, list[Trial]]], sites: list[str]) -> str:
    """Lay the results out as Markdown, with a last row for all agents."""
    everything = {name: [t for by in results.values() for t in by[name]] for name in sites}
    lines = [f"| agent | {' | '.join(sites)} |", f"|---{'|---' * len(sites)}|"]
    for agent, by_site in [*results.items(), ("all", everything)]:
        lines.append(f"| {agent} | {' | '.join(cell(by_site[name]) for name in sites)} |")
    return "\n".join(lines)


def main() -> int:
    """Run the campaign that the arguments ask for, and print what came of it."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--agents", nargs="*", choices=AGENTS, default=list(AGENTS))
    parser.add_argument("--sites", nargs="+", choices=SITES, default=list(SITES))
    parser.add_argument("--kills", type=int, default=3, help="for each agent and site")
    parser.add_argument("--sweep-kills", type=int, default=10, help="of the one sweep; 0: none")
    parser.add_argument("--seed", type=int, default=0, help="of the moments")
    parser.add_argument("--jobs", type=int, default=1, help="agents at a time")
    parser.add_argument("--folder", type=Path, help="made, and kept; a temporary one unless given")
    args = parser.parse_args()
    # In the background a shell has it ignored, and so would all that is started here.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    folder = args.folder or Path(tempfile.mkdtemp(prefix="torture-"))
    folder.mkdir(parents=True, exist_ok=True)
    with ThreadPoolExecutor(args.jobs) as pool:
        waiting = {
            agent: pool.submit(torture_agent, agent, args.sites, args.kills, args.seed, folder)
            for agent in args.agents
        }
        results = {agent: future.result() for agent, future in waiting.items()}
    trials = [t for by_site in results.values() for some in by_site.values() for t in some]
    if results:
        print(table(results, args.sites))
    if args.sweep_kills:
        trials.append(torture_sweep(args.sweep_kills, args.seed, folder))
        print(f"\nsweep, killed {args.sweep_kills} times: resumed/equal {cell(trials[-1:])[2:]}")
    versions = ", ".join(f"{name} {version(name)}" for name in ("jax", "orbax-checkpoint"))
    print(f"\n{platform.machine()}, Python {platform.python_version()}, {versions}")
    notes = collections.Counter(trial.notes for trial in trials if trial.notes)
    print("".join(f"- {note}\n" for note in notes), end="")
    if not notes and args.folder is None:
        shutil.rmtree(folder)
    return 1 if notes else 0


if __name__ == "__main__":
    sys.exit(main())
