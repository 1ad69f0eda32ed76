"""Take what running left out of notebooks: outputs, counters of executions, the machine's details.

    .venv/bin/python tools/strip_notebooks.py notebooks/*.ipynb
    .venv/bin/python tools/strip_notebooks.py --check notebooks/*.ipynb     # changes nothing

Ends with 1 if a notebook was not clean, as a hook that stops a commit should.
"""

import json
import sys
from pathlib import Path
from typing import Any

KEPT = ("kernelspec", "language_info")  # of a notebook's metadata
OF_CELLS = ("tags", "tiny")  # of a cell's: what tests run in place of its numbers
LANGUAGE = ("name",)  # of language_info; the rest changes with the Python that ran it


def strip(notebook: dict[str, Any]) -> dict[str, Any]:
    """Return a notebook as it is before it is run."""
    metadata = {name: x for name, x in notebook.get("metadata", {}).items() if name in KEPT}
    if "language_info" in metadata:
        language = metadata["language_info"]
        metadata["language_info"] = {name: language[name] for name in LANGUAGE if name in language}
    cells = []
    for cell in notebook["cells"]:
        kept = {name: x for name, x in cell.get("metadata", {}).items() if name in OF_CELLS and x}
        ran = {"outputs": [], "execution_count": None} if cell["cell_type"] == "code" else {}
        cells.append({**cell, "metadata": kept, **ran})
    return {**notebook, "cells": cells, "metadata": metadata}


def main(words: list[str]) -> int:
    """Strip the notebooks that are named, and return the exit code."""
    dirty = []
    for path in (Path(word) for word in words if word != "--check"):
        text = path.read_text(encoding="utf-8")
        clean = json.dumps(strip(json.loads(text)), indent=1, ensure_ascii=False) + "\n"
        if clean != text:
            dirty.append(path)
            if "--check" not in words:
                path.write_text(clean, encoding="utf-8")
    for path in dirty:
        print(f"{path} was not clean")
    return 1 if dirty else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
