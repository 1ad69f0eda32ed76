"""Reports about sweeps and runs: figures, tables and one page.

    report.html     everything, in one file that needs no network
    table.md        the tables
    table.tex       the same for LaTeX
    *.png, *.pdf    the figures

Nothing here starts JAX.
"""

from __future__ import annotations

import html
import os
import shlex
import zlib
from collections.abc import Sequence
from pathlib import Path

from jaxrl_pg import files
from jaxrl_pg.report import export, pages, tables
from jaxrl_pg.report.curves import Curves
from jaxrl_pg.report.drawing import figures
from jaxrl_pg.report.sources import Source, load
from jaxrl_pg.report.summary import summarise

__all__ = ["Curves", "Shown", "show", "write"]

_MAX_NAMED = 4  # folders in the name of a comparison
_FIGURES = ("curves", "profiles", "improvement", "sensitivity")


def write(
    run_dirs: Sequence[str | os.PathLike[str]],
    out: str | os.PathLike[str] | None = None,
    jsonl: bool = False,
    tensorboard: bool = False,
) -> Path:
    """Write a report that compares the runs of some folders.

    Args:
        run_dirs: folders of sweeps (results.csv) and of single runs (metrics.jsonl); runs that
            differ in nothing but the seed become one setting.
        out: the folder to write into, made if absent. If None, the report about one folder is
            `report` in it, and one that compares several is `reports/<name>_vs_<name>` here.
        jsonl: write `agents/<id>.jsonl` as well, the rows of each run.
        tensorboard: write `tensorboard/<id>/` as well, each run's curves and hyper-parameters.

    Returns:
        The path of report.html.

    Raises:
        ValueError: for a folder that holds neither, a table that cannot be read, or an `out` that
            cannot be written.
    """
    merged, sources = load(run_dirs)
    folder = _folder(out, [Path(source.path) for source in sources])
    results = summarise(merged, sources)
    title = _title(sources)
    command = shlex.join(["jaxrl-pg", "report", *(source.path for source in sources)])
    command += f" --out {shlex.quote(str(folder))}" if out is not None else ""
    runs = export.runs(merged) if jsonl or tensorboard else []
    sheets, drawn = tables.sheets(results), figures(results)
    for key in _FIGURES:  # an earlier report may have more of them
        files.remove_file(folder / f"{key}.png")
        files.remove_file(folder / f"{key}.pdf")
    for figure in drawn:
        files.write_atomic(folder / f"{figure.key}.png", figure.png)
        files.write_atomic(folder / f"{figure.key}.pdf", figure.pdf)
    files.write_atomic(folder / "table.md", tables.markdown(sheets, title))
    files.write_atomic(folder / "table.tex", tables.latex(sheets, title))
    if jsonl:
        export.write_jsonl(runs, folder / "agents")
    if tensorboard:
        export.write_tensorboard(runs, merged.hyper, folder / "tensorboard")
    path = folder / "report.html"
    files.write_atomic(path, pages.page(title, results, drawn, sheets, command))
    return path


class Shown:
    """A report that a notebook shows below its cell; nothing is written."""

    def __init__(self, title: str, page: str) -> None:
        """Keep the page."""
        self.title, self.page = title, page

    def _repr_html_(self) -> str:
        # In a frame of its own, so that its style stays there.
        return (
            f'<iframe title="{html.escape(self.title)}" srcdoc="{html.escape(self.page)}" '
            'style="width: 100%; height: 44rem; border: 1px solid #dfe3e8"></iframe>'
        )

    def __repr__(self) -> str:
        """Say what it is about."""
        return f"<report about {self.title}>"


def show(run_dirs: str | os.PathLike[str] | Sequence[str | os.PathLike[str]]) -> Shown:
    """Make the report about a folder, or about several, to be looked at in a notebook.

    Raises:
        ValueError: as `write` does.
    """
    several = [run_dirs] if isinstance(run_dirs, str | os.PathLike) else run_dirs
    merged, sources = load(several)
    results, title = summarise(merged, sources), _title(sources)
    command = shlex.join(["jaxrl-pg", "report", *(source.path for source in sources)])
    page = pages.page(title, results, figures(results), tables.sheets(results), command)
    return Shown(title, page)


def _title(sources: Sequence[Source]) -> str:
    more = f" and {len(sources) - 4} more" if len(sources) > 4 else ""
    return " and ".join(source.name for source in sources[:4]) + more


def _folder(out: str | os.PathLike[str] | None, compared: Sequence[Path]) -> Path:
    """Make the folder to write into: the one given, that of the one run, or one beside all."""
    within = None
    if out is not None:
        folder = Path(out).expanduser()
    elif len(compared) == 1:
        within = compared[0]
        folder = within / "report"
    else:
        folder = Path("reports") / _comparison(compared)
    try:
        files.make_folder(folder, within=within)
        if not os.access(folder, os.W_OK | os.X_OK):
            raise PermissionError(None, "no permission to write there")
    except OSError as error:
        raise ValueError(f"cannot write {folder} ({error.strerror}): give another --out") from None
    return folder


def _comparison(compared: Sequence[Path]) -> str:
    """Return a name for the comparison of some folders, the same for the same folders.

    A checksum of the paths is added where the folders' names do not say which they are.
    """
    names = [path.absolute().name for path in compared]
    name = "_vs_".join(names)
    if len(set(names)) == len(names) <= _MAX_NAMED and len(name.encode()) <= files.MAX_BYTES:
        return name
    paths = "\n".join(str(path.resolve()) for path in compared)
    first = names[0].encode()[: files.MAX_BYTES // 2].decode(errors="ignore")
    return f"{first}_and_{len(names) - 1}_more-{zlib.crc32(paths.encode()):08x}"
