"""Hook of mkdocs: what a page links to outside docs/ becomes part of the site.

Pages are written for the repository, where `../experiments/bench/bench.py` is a file. In the site
it is the page `repository/experiments/bench/bench.py`, which shows the file's text. Another page in
Markdown is taken as it is, and what is no text (a figure, a table of results) is copied.
"""

import os
import posixpath
import re
from pathlib import Path

from mkdocs.structure.files import File

LINK = re.compile(r'(\]\()([^)\s#]+)(#[^)\s]*)?((?:\s+"[^"\n]*")?\))')  # maybe with a title
# Formulas and code, in which brackets are no links.
NO_LINKS = re.compile(r"(^```.*?^```$|\$[^$\n]+\$|`[^`\n]+`)", re.DOTALL | re.MULTILINE)
LANGUAGES = {".py": "python", ".toml": "toml", ".json": "json", ".sh": "bash", ".yml": "yaml"}
PLAIN = {".csv", ".txt", ""}
LARGEST = 100_000  # bytes of a file that is shown as a page; a larger one is copied


def on_files(files, config):
    """Add what the pages link to, and what those pages link to."""
    root = Path(config.config_file_path).parent
    waiting = [file.abs_src_path for file in files.documentation_pages() if file.abs_src_path]
    seen = set(waiting)
    while waiting:
        page = Path(waiting.pop())
        for target in outside(page, root, Path(config.docs_dir)):
            if str(target) not in seen:
                seen.add(str(target))
                files.append(_file(target, root, config))
                waiting += [str(target)] if target.suffix == ".md" else []
    return files


def on_page_markdown(markdown, page, config, files):
    """Lead the links of a page to where the site has their targets."""
    if not page.file.abs_src_path:
        return markdown
    root, here = Path(config.config_file_path).parent, Path(page.file.abs_src_path)

    def moved(match):
        target = _resolved(here, match[2])
        if target is None or not target.is_relative_to(root):
            return match[0]
        docs = Path(config.docs_dir)
        uri = target.relative_to(docs) if target.is_relative_to(docs) else _uri(target, root)
        anchor = re.sub(r"^#L(\d+).*", r"#__codelineno-0-\1", match[3] or "")
        start = posixpath.dirname(page.file.src_uri) or "."
        return f"{match[1]}{posixpath.relpath(Path(uri).as_posix(), start)}{anchor}{match[4]}"

    parts = NO_LINKS.split(markdown)
    return "".join(x if i % 2 else LINK.sub(moved, x) for i, x in enumerate(parts))


def on_page_content(content, page, **_):
    """Tell mkdocs the lines of code that a page shows, so that links to them are checked."""
    if page.file.src_uri.startswith("repository/"):
        lines = set(re.findall(r'id="(__codelineno-[\d-]+)"', content))
        page.present_anchor_ids = {*(page.present_anchor_ids or ()), *lines}


def outside(page, root, docs):
    """Return the files of the repository, outside the folder docs, that a page links to."""
    text = NO_LINKS.sub("", page.read_text(encoding="utf-8"))
    targets = [_resolved(page, match[2]) for match in LINK.finditer(text)]
    inside = [x for x in targets if x and x.is_relative_to(root) and not x.is_relative_to(docs)]
    return [x for x in dict.fromkeys(inside) if x.exists()]


def _resolved(page, link):
    """Return the path that a page's link leads to, or None where it leads to no file."""
    if re.match(r"\w+:|/", link):
        return None
    return Path(os.path.normpath(page.parent / link))


def _is_shown(target):
    if target.is_dir():
        return True
    return target.suffix in {*LANGUAGES, *PLAIN} and target.stat().st_size <= LARGEST


def _uri(target, root):
    """Return where the site has a file of the repository."""
    uri = f"repository/{target.relative_to(root).as_posix()}"
    return f"{uri}.md" if _is_shown(target) else uri


def _file(target, root, config):
    """Return a file of the site: a page, a page that shows a text, or a copy."""
    uri = _uri(target, root)
    if not _is_shown(target):
        return File.generated(config, uri, abs_src_path=str(target))
    name, language = target.relative_to(root).as_posix(), LANGUAGES.get(target.suffix, "text")
    if target.is_dir():
        text = "\n".join(sorted(x.name for x in target.iterdir() if x.name != "__pycache__"))
    else:
        text = target.read_text(encoding="utf-8")
    code = f"````{language}\n{text}\n````"
    head = f"---\ntitle: {name}\nsearch:\n  exclude: true\n---\n"
    return File.generated(config, uri, content=f"{head}# `{name}`\n\n{code}\n")
