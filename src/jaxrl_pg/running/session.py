"""One process's share of a run: its compiled programs, and when they are called."""

from __future__ import annotations

import time
from typing import Any

import jax

from jaxrl_pg import envs
from jaxrl_pg.config import BaseConfig
from jaxrl_pg.running import culprit, memory_estimate, over_seeds
from jaxrl_pg.running.journal import DivergedError, Journal
from jaxrl_pg.running.options import Options
from jaxrl_pg.running.rows import Row, first_not_finite, known
from jaxrl_pg.running.together import SharedJournal
from jaxrl_pg.training import devices, members
from jaxrl_pg.training.evaluation import evaluation_metrics
from jaxrl_pg.training.program import chunk_length, evaluation_iterations, iterations
from jaxrl_pg.types import TrainState

__all__ = ["Session"]


class Session:
    """One process's share of a run: its compiled programs, and when they are called."""

    def __init__(
        self,
        config: BaseConfig,
        options: Options,
        journal: Journal | SharedJournal,
        seconds: float,
        has_replay: bool,
        seeds: tuple[int, int],
    ) -> None:
        """Get ready to go on.

        Args:
            config: the agent's.
            options: how the run is watched and saved.
            journal: what takes the rows.
            seconds: wall-clock time of the run so far.
            has_replay: the state has one, which is changed in its place.
            seeds: the run's first seed, and how many it trains side by side.
        """
        self.config, self.options, self.journal = config, options, journal
        self.began = time.monotonic() - seconds
        self.length = chunk_length(config, options.num_evals)
        self.points = set(evaluation_iterations(config, options.num_evals))
        self.compiled: set[tuple[Any, int]] = set()
        # A replay is changed in its place. Without one, the small state that a chunk begins with is
        # kept, so that the iteration in which a loss diverges can be looked at again.
        # Environments on the host cannot go through it twice.
        self.seeds, self.several = seeds, seeds[1] > 1
        alone = config.num_devices == 1 and not self.several
        self.searches = alone and not (has_replay or envs.on_host(config.env))
        donated = () if self.searches else (1,)
        train, evaluate = iterations, evaluation_metrics
        if self.several:
            train, evaluate = members.iterations, members.evaluate
        self.train = jax.jit(train, static_argnums=2, donate_argnums=donated)
        self.evaluate = jax.jit(
            evaluate,
            static_argnums=2,
            out_shardings=devices.on_every_process(config.num_devices),
        )

    @property
    def seconds(self) -> float:
        """Wall-clock time of the run so far, earlier sessions included."""
        return time.monotonic() - self.began

    def advance(self, state: TrainState) -> tuple[TrainState, float | None]:
        """Train one chunk, evaluate where that is due, report both; return the score if any."""
        before, start, steps = state, int(state.iteration), self.config.steps_per_iteration
        # The first chunk of a resumed run may have to catch up with the chunks' grid.
        length = self.length - start % self.length
        self._compile(self.train, state, length)
        state, metrics = self.train(self.config, state, length)
        every = jax.device_get(metrics)  # with several seeds, each one's
        metrics = over_seeds.reduced(every) if self.several else every
        seconds = round(self.seconds, 3)
        rows = [
            {
                "iteration": start + i + 1,
                **known({name: values[i].item() for name, values in metrics.items()}),
                "timesteps": (start + i + 1) * steps,
                "seconds": seconds,
            }
            for i in range(len(metrics["timesteps"]))
        ]
        self._require_finite(rows, before, state, every)
        iteration = start + len(rows)
        if iteration in self.points:
            num_episodes = self.options.num_eval_episodes
            self._compile(self.evaluate, state, num_episodes)
            evaluated = jax.device_get(self.evaluate(self.config, state, num_episodes))
            measured = over_seeds.reduced(evaluated) if self.several else evaluated
            each = evaluated["eval/return_mean"] if self.several else ()
            named = {f"eval/return_mean/seed_{self.seeds[0] + i}": x for i, x in enumerate(each)}
            rows.append(
                {
                    "iteration": iteration,
                    **{name: value.item() for name, value in {**measured, **named}.items()},
                    "timesteps": iteration * steps,
                    "eval/num_episodes": num_episodes,
                }
            )
        self.journal.report(rows)
        return state, rows[-1].get("eval/return_mean")

    def _require_finite(
        self, rows: list[Row], before: TrainState[Any], state: TrainState[Any], every: Any
    ) -> None:
        """Go on only while every loss and every gradient norm is finite; see `Journal`."""
        if not self.several:
            self.journal.require_finite(
                rows,
                state,
                lambda number: culprit.find(self.config, before, number) if self.searches else None,
            )
            return
        bad = first_not_finite(rows)
        if bad is None:
            return
        number = over_seeds.first_diverged(every) or 0
        seed, its_state = self.seeds[0] + number, members.member(state, number)
        rows[bad[0]]["diverged/seed"] = seed
        try:
            self.journal.require_finite(rows, its_state)
        except DivergedError as error:
            raise DivergedError(f"seed {seed} of {self.seeds[1]}: {error}") from None

    def _compile(self, program: Any, state: TrainState[Any], number: int) -> None:
        """Compile a program before it is first called; refuse what would not fit in memory."""
        if (program, number) in self.compiled:
            return
        began = time.monotonic()
        self.journal.compiles()
        compiled = program.lower(self.config, state, number).compile()
        memory_estimate.require_compiled(compiled, self.config)
        self.compiled.add((program, number))
        self.journal.waited(time.monotonic() - began)
