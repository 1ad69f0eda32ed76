"""The file of results: JSON that is whole after every row, whenever the run is cut."""

import json
import os
from pathlib import Path
from typing import Any

FORMAT = 1


class Record:
    """One run's file.

    `sections[name]` has a `status` (`running`, `done`, `failed`, `cut` or `skipped`), its `rows`,
    how many `seconds` it took, and `why` it is not done.
    """

    def __init__(self, path: Path, facts: dict[str, Any] | None = None) -> None:
        """Begin a new file with these facts of the run, or go on with the one that is there."""
        self.path = path
        if facts is None:
            self.data = json.loads(path.read_text())
        else:
            self.data = {"format": FORMAT, **facts, "sections": {}}
            self._write()

    def start(self, name: str, until: float) -> None:
        """Begin a section, which should end at `until` (of `time.time`)."""
        self.data["sections"][name] = {"status": "running", "until": until, "rows": []}
        self._write()

    def add(self, name: str, row: dict[str, Any]) -> None:
        """Keep a row of the running section."""
        self.data["sections"][name]["rows"].append(row)
        self._write()

    def end(self, name: str, status: str, **facts: Any) -> None:
        """End a section, or say of one that never began why not."""
        section = self.data["sections"].setdefault(name, {"rows": []})
        section.pop("until", None)
        section.update(status=status, **facts)
        self._write()

    def note(self, **facts: Any) -> None:
        """Keep facts of the whole run."""
        self.data.update(facts)
        self._write()

    def _write(self) -> None:
        self.path.parent.mkdir(parents=True, exist_ok=True)
        beside = self.path.with_name(f".{self.path.name}.new")
        beside.write_text(json.dumps(self.data, indent=1, allow_nan=False) + "\n")
        os.replace(beside, self.path)


def told(error: BaseException) -> str:
    """An error in one line, without the folders of this machine."""
    return plain(f"{type(error).__name__}: {error}")


def plain(text: str) -> str:
    """A text in one line of at most 300 characters, without the folders of this machine."""
    words = [Path(word).name if word.startswith("/") else word for word in text.split()]
    return " ".join(words)[:300]
