"""The command `export`: a trained policy for other programs."""

from __future__ import annotations

import dataclasses
from pathlib import Path

from jaxrl_pg.cli import arguments, preparing

__all__ = ["ExportFlags", "run_export"]


@dataclasses.dataclass(frozen=True, kw_only=True)
class ExportFlags:
    """Write a trained policy for programs without JAX: NumPy, StableHLO and, if asked for, ONNX."""

    out: str | None = None
    """a folder that does not exist yet; unless given, exported in the run's folder, or for
    zoo:ENV/AGENT the folder ENV-AGENT here"""
    step: str = "latest"
    """which checkpoint: latest, best, or its iteration"""
    onnx: bool = False
    """write policy.onnx as well (extra: onnx)"""


def run_export(args: list[str]) -> int:
    """Export a trained policy, and say what is in the folder."""
    (run,), (flags,) = arguments.read("jaxrl-pg export", args, [ExportFlags], arguments.POLICY)
    import jaxrl_pg

    preparing.prepare(1)
    policy = jaxrl_pg.load(run, step=flags.step)
    exported = policy.export(flags.out or _place(run), onnx=flags.onnx)
    print(f"iteration {policy.step} is in {exported.path}")
    for name, what in exported.files.items():
        print(f"  {name:<20}{what}")
    for name, reason in exported.left_out.items():
        print(f"  without {name}: {reason}")
    return 0


def _place(run: str) -> Path:
    """Return where an export goes: into the folder of a run or policy, or (zoo) here."""
    from jaxrl_pg.zoo.entries import PREFIX, find_policy

    if run.startswith(PREFIX):
        return Path(find_policy(run).file_name)
    return Path(run) / "exported"
