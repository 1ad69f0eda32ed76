"""The agents' pages: one for each agent, true to configs, gates, recorded rows and source."""

import re
import shlex
import sys
import types
from pathlib import Path

import pytest

from jaxrl_pg import AGENT_NAMES, agents
from jaxrl_pg.cli import arguments
from jaxrl_pg.components.off_policy import OffPolicyConfig
from jaxrl_pg.components.segments import SegmentsConfig

ROOT = Path(__file__).parents[1]
FOLDER = ROOT / "docs" / "agents"
INDEX = FOLDER / "index.md"
PAGES = [FOLDER / f"{name}.md" for name in AGENT_NAMES]
ANCHORED = sorted(page for name in ("docs", "experiments") for page in ROOT.glob(f"{name}/**/*.md"))
REPAIR = "run `python tools/agent_pages.py`"

FENCED = re.compile(r"^```(\w*)\n(.*?)^```$", re.DOTALL | re.MULTILINE)
MADE = re.compile(r"<!-- (?:fields|gates|recorded).*?<!-- end -->", re.DOTALL)
ESTIMATE = re.compile(r"-?\d[\d,.]* \[-?\d[\d,.]*, -?\d[\d,.]*\]")
SPAN = re.compile(r"`([^`\n]+)`")
HEADINGS = ["What it computes", "Run it", "Implementation details", "Fields that matter"]
HEADINGS += ["What it logs", "Results", "Known failures"]
# Every agent logs these, and the pages leave them to the reference.
COMMON = re.compile(r"timesteps|learning_rate|train/(return|length)_mean|train/episodes")
SINGLE = {"alpha", "epsilon", "grad_norm"}
# What other settings than those of a page's block log: a value network, Box actions.
ELSEWHERE = {
    "sac": {"loss/value"},
    "soft_q_learning": {"policy/stein", "policy/action_std"},
}


def blocks(page, language):
    return [body for name, body in FENCED.findall(page.read_text("utf-8")) if name == language]


def cells(line):
    return [cell.strip() for cell in line.strip("|").split("|")]


@pytest.fixture(scope="module")
def tools():
    """The modules that write the pages."""
    before, path = set(sys.modules), list(sys.path)
    sys.path.insert(0, str(ROOT / "tools"))
    import agent_pages
    import anchor_links

    yield types.SimpleNamespace(pages=agent_pages, links=anchor_links)
    sys.path[:] = path
    for name in {"agent_pages", "anchor_links", "tables"} - before:
        sys.modules.pop(name, None)


def test_every_agent_has_a_page_and_a_row_and_no_other_has():
    assert {page.stem for page in FOLDER.glob("*.md")} == {*AGENT_NAMES, "index"}
    listed = re.findall(r"^\| \[`(\w+)`\]\((\w+)\.md\) \|", INDEX.read_text("utf-8"), re.MULTILINE)
    assert listed == [(name, name) for name in AGENT_NAMES]


@pytest.mark.parametrize("page", [INDEX, *PAGES], ids=lambda page: page.stem)
def test_a_page_says_what_configs_gates_rows_and_source_say(page, tools):
    text = page.read_text("utf-8")
    for old, new in zip(
        text.splitlines(), tools.pages.rebuilt(page, text).splitlines(), strict=True
    ):
        assert old == new, REPAIR


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_a_page_has_the_same_parts_as_the_others(page):
    text = page.read_text("utf-8")
    assert text.startswith(f"# `{page.stem}`: ")
    headings = re.findall(r"^## (.*)$", text, re.MULTILINE)
    assert [name for name in headings if not name.startswith("Beside ")] == HEADINGS
    assert "arxiv.org" in text or "doi.org" in text
    details = text.partition("## Implementation details")[2].partition("\n## ")[0]
    assert details.count(".py#L") >= 4
    assert not re.findall(r"\]\([^)#\s]+\.py\)", text), "a link into source has a line: write #L0"


@pytest.mark.parametrize("page", ANCHORED, ids=lambda page: page.relative_to(ROOT).as_posix())
def test_links_into_source_lead_to_the_lines_of_what_they_name(page, tools):
    text = page.read_text("utf-8")
    assert tools.links.anchored(page, text) == text, "run `python tools/anchor_links.py`"
    known = len(tools.links.LINK.findall(text))
    assert text.count(".py#L") == known, "a link into source names a definition: [`name`](...#L1)"


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_a_page_leads_to_the_reference_of_fields_and_of_metrics(page):
    parts = re.split(r"^## (.*)$", page.read_text("utf-8"), flags=re.MULTILINE)
    text = dict(zip(parts[1::2], parts[2::2], strict=True))
    assert "](../reference/fields.md)" in text["Fields that matter"]
    assert "](../reference/metrics.md#by-agent)" in text["What it logs"]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_estimates_in_the_text_are_those_of_the_tables(page):
    text = page.read_text("utf-8")
    tables = "\n".join(MADE.findall(text)) + (ROOT / "experiments" / "README.md").read_text("utf-8")
    quoted = ESTIMATE.findall(" ".join(MADE.sub("", text).split()))
    assert not [estimate for estimate in quoted if estimate not in tables]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_a_page_compares_the_defaults_that_there_are(page):
    default = agents.AGENTS[page.stem].Config()
    text = page.read_text("utf-8")
    if "## Beside " not in text:
        return
    section = text.partition("## Beside ")[2].partition("\n## ")[0]
    rows = [cells(line) for line in section.splitlines() if line.startswith("| `")]
    assert len(rows) > 3
    assert [(row[0], row[1]) for row in rows] == [
        (row[0], str(getattr(default, row[0].strip("`")))) for row in rows
    ]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_the_command_of_a_page_is_understood(page):
    (block,) = blocks(page, "bash")
    for line in block.replace("\\\n", " ").splitlines():
        program, train, agent, *words = shlex.split(line)
        assert (program, train, agent) == ("jaxrl-pg", "train", page.stem)
        _, (config,) = arguments.read(
            f"jaxrl-pg train {agent}", words, [agents.AGENTS[agent].Config]
        )
        assert config.total_timesteps <= 1_000_000


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_the_code_of_a_page_runs_and_logs_what_the_page_explains(page, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (block,) = blocks(page, "python")
    names = {}
    exec(compile(block, page.name, "exec"), names)
    assert names["metrics"]["timesteps"][-1] >= names["config"].total_timesteps
    logged = {name for name in names["metrics"] if not COMMON.fullmatch(name)}
    section = page.read_text("utf-8").partition("## What it logs")[2].partition("\n## ")[0]
    spans = set(SPAN.findall(section))
    explained = {span for span in spans if re.fullmatch(r"[a-z]+/\w+", span) or span in SINGLE}
    assert explained - ELSEWHERE.get(page.stem, set()) <= {*names["metrics"]}
    if page.stem != "ddpg":  # whose page hands on to TD3's
        assert logged - {"train/num_updates"} <= explained


def test_the_indexs_table_is_true_of_actions_memory_and_replays():
    rows = [cells(line) for line in INDEX.read_text("utf-8").splitlines() if ".md) |" in line]
    for (link, _, actions, source, memory, masks), name in zip(rows, AGENT_NAMES, strict=True):
        assert f"`{name}`" in link
        agent = agents.AGENTS[name]
        assert memory == ("yes" if agent.memory is not None else "no"), name
        replays = issubclass(agent.Config, OffPolicyConfig | SegmentsConfig)
        assert source == ("a replay" if replays else "its newest rollout"), name
        refused = {"finite": "Pendulum-v1", "Box": "CartPole-v1"}.get(actions)
        assert (refused is None) == (actions == "both")
        if refused:
            with pytest.raises(ValueError, match=r"actions|action set"):
                agent.init(agent.Config(env=refused), None)
        assert masks == ("no" if actions == "Box" or name == "multi_agent" else "yes"), name
        assert agent.adopt is not None, name


SOURCE = '''
"""A module."""
LIMIT = 3


class Config:
    """Has a limit."""

    limit: int = 3
    """the limit"""

    def check(self):
        """Looks at limit."""
        return self.limit


def outer(limit):
    def inner():
        limit = 4
        return limit

    return inner


def twice():
    def check():
        pass
'''


def test_a_link_follows_what_it_names(tmp_path, tools):
    (tmp_path / "module.py").write_text(SOURCE)
    page = tmp_path / "page.md"

    def line(name, piece=""):
        title = f' "{piece}"' if piece else ""
        text = tools.links.anchored(page, f"See [`{name}`](module.py#L0{title}), and more.")
        found = re.fullmatch(
            rf"See \[`{name}`\]\(module.py#L(\d+){re.escape(title)}\), and more.", text
        )
        return SOURCE.splitlines()[int(found[1]) - 1]

    assert line("LIMIT") == "LIMIT = 3"
    assert line("Config.limit") == "    limit: int = 3"
    assert line("inner") == "    def inner():"
    assert line("Config.check") == "    def check(self):"
    assert line("outer", "limit = ") == "        limit = 4"
    assert line("Config.check", "limit") == "        return self.limit"  # not its docstring
    for name, piece, why in (
        ("gone", "", "0 definitions of gone"),
        ("check", "", "2 definitions of check"),
        ("outer", "LIMIT", "no line with 'LIMIT'"),
    ):
        with pytest.raises(ValueError, match=why):
            line(name, piece)
    with pytest.raises(ValueError, match="leads nowhere"):
        tools.links.anchored(page, "[`x`](absent.py#L1)")
