"""The page of the players who see a part shows what their recorded returns give."""

import json
import sys
from pathlib import Path

FOLDER = Path(__file__).parents[2] / "experiments" / "players"


def test_the_table_is_that_of_the_returns(monkeypatch):
    monkeypatch.syspath_prepend(FOLDER)
    import page

    try:
        returns = json.loads(page.RESULTS.read_text())
        assert page.table(returns) in (FOLDER / "README.md").read_text(encoding="utf-8")
        assert {len(by_seed) for by_seed in returns.values()} == {5}
        returns["sequential, all see all"][0][-1] = 0.0
        assert page.table(returns) not in (FOLDER / "README.md").read_text(encoding="utf-8")
    finally:
        del sys.modules["page"]
