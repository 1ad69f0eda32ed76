"""Hook of mkdocs: nothing that a page loads comes from the network.

Links may lead anywhere. But a script, a style, a font or a figure from elsewhere would be missing
on a machine without a network, and would tell somebody else who reads what.
"""

import re

LOADED = re.compile(
    r'<(?:script|img|iframe|source)\b[^>]*\bsrc="(?:https?:)?//[^"]+"'
    r'|<link\b[^>]*\brel="(?:stylesheet|preconnect|preload|icon)"[^>]*\bhref="(?:https?:)?//[^"]+"'
    r'|<link\b[^>]*\bhref="(?:https?:)?//[^"]+"[^>]*\brel="(?:stylesheet|preconnect|preload|icon)"'
)


def on_post_page(output, page, **_):
    """Refuse a page that would load something from elsewhere.

    Raises:
        ValueError: naming the page and what it loads.
    """
    found = LOADED.search(output)
    if found:
        raise ValueError(f"{page.file.src_uri} loads from the network: {found[0]}")
    return output
