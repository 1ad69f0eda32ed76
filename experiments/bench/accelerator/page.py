"""The measured part of docs/accelerators.md, made from the files of results."""

import json
from pathlib import Path

from accelerator.columns import COLUMNS, Row, in_bytes, table
from accelerator.plan import SECTIONS

BEGIN, END = "<!-- measured: begin -->", "<!-- measured: end -->"
PATTERN = "accelerator*.json"


def write(page: Path, folder: Path) -> None:
    """Replace what stands between the page's markers by what the results in a folder give."""
    text = page.read_text(encoding="utf-8")
    if BEGIN not in text or END not in text:
        raise ValueError(f"{page} lacks the lines {BEGIN} and {END}: put them back")
    before, after = text.split(BEGIN)[0], text.split(END)[1]
    page.write_text(f"{before}{BEGIN}\n{render(read(folder))}\n{END}{after}", encoding="utf-8")


def read(folder: Path) -> list[Row]:
    """The results of all runs, accelerators before CPUs."""
    found = [json.loads(path.read_text()) for path in sorted(folder.glob(PATTERN))]
    return sorted(found, key=lambda run: _facts(run)["device"].get("platform") == "cpu")


def render(runs: list[Row]) -> str:
    """Every run, as Markdown."""
    measured = {_facts(run)["device"].get("platform", "cpu") for run in runs}
    parts = []
    if not measured - {"cpu"}:
        parts.append(
            "**No GPU and no TPU has been measured yet.** What follows is the same command on a "
            "CPU: it shows that every section works, and nothing of an accelerator's speed."
        )
    return "\n\n".join([*parts, *map(_run, runs)])


def _run(run: Row) -> str:
    """One run, under the name of its hardware; what it did not measure, in one line at its end."""
    parts = [f"### {_hardware(run)}, {run['date']}", _about(run)]
    missing = []
    for name, section in run["sections"].items():
        title = SECTIONS[name].title
        rows = [row for row in section["rows"] if name != "device" or "limit" in row]
        if not rows and section["status"] == "done":
            continue
        if all("skipped" in row or "published" in row for row in rows):
            missing.append(f"{title} ({_why(section)})")
            continue
        shown = _merged(rows) if name == "peers" else shortened(rows)
        parts += [f"#### {title}", table(COLUMNS[name], shown)]
        if section["status"] != "done":
            parts.append(f"This section is {section['status']}: {section.get('why', 'no word')}.")
    parts += [f"Not measured: {'; '.join(missing)}."] if missing else []
    return "\n\n".join(parts)


def _why(section: Row) -> str:
    """Why a section has nothing to show."""
    reasons = [row["skipped"] for row in section["rows"] if "skipped" in row]
    return str(section.get("why") or (reasons[0] if reasons else section["status"]))


def _hardware(run: Row) -> str:
    facts = _facts(run)
    kind, host = facts["device"].get("kind", "unknown device"), facts["host"]
    if kind == "cpu":
        return f"CPU: {host.get('cpu', 'unknown')}, {host.get('cores')} cores"
    num = facts["device"]["num_devices"]
    return kind if num == 1 else f"{num} x {kind}"


def _about(run: Row) -> str:
    facts = _facts(run)
    one, host, versions = facts["device"], facts["host"], facts["versions"]
    packages = ", ".join(f"{name} {v}" for name, v in versions.items() if v != "none")
    memory = f"{in_bytes(one['memory_bytes'])} for arrays" if "memory_bytes" in one else "unknown"
    lines = [
        f"commit `{run['commit']}`, {run.get('seconds', 'more than 0')} s of "
        f"{run['seconds_allowed']:.0f} allowed" + (", tiny sizes" if run["tiny"] else ""),
        f"device: {one.get('kind')}, {one.get('platform_version')}, {memory}"
        + "".join(f", {name} {one[name]}" for name in _DRIVER if name in one),
        f"host: {host.get('cpu')}, {host.get('cores')} cores, {host.get('system')}, load average "
        f"at the start {host.get('load', 'unknown')}",
        packages,
    ]
    lines += [run["note"]] if "note" in run else []
    return "\n".join(f"- {line}" for line in lines)


_DRIVER = ("driver_version", "memory.total", "power.limit", "clocks.max.sm")


def _facts(run: Row) -> dict[str, Row]:
    """Versions, device and host, empty where the run was cut before it had them."""
    found: dict[str, Row] = {"versions": {}, "device": {}, "host": {}}
    for row in run["sections"].get("device", {}).get("rows", []):
        found |= {name: row[name] for name in found if name in row}
    return found


def _merged(rows: list[Row]) -> list[Row]:
    """Each published figure with our row of the same work."""
    same = ("env", "agents", "timesteps")
    ours = {(row["ours"], *(row[x] for x in same)): row for row in rows if "ours" in row}
    merged = []
    for row in (row for row in rows if "published" in row):
        mine = ours.get((row["published"], *(row[x] for x in same)), {})
        others = {name: value for name, value in mine.items() if name != "seconds"}
        merged.append({**row, **others, "here_s": mine.get("seconds")})
    return merged


def shortened(rows: list[Row]) -> list[Row]:
    """Of rows after each other for which there was no time, the first, which counts the others."""
    shown: list[Row] = []
    folded = 0
    for row in rows:
        if "skipped" in row and shown and "skipped" in shown[-1]:
            folded += 1
            text = shown[-1]["skipped"].partition("; ")[0]
            shown[-1] = {**shown[-1], "skipped": f"{text}; nor for the next {folded}"}
        else:
            shown.append(row)
            folded = 0
    return shown
