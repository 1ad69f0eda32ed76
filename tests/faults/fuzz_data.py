"""Strategies that damage what is on disk: JSON by its structure, any text by its bytes.

How many examples are tried follows from the environment variable `HYPOTHESIS_PROFILE`: `ci`, the
default, tries few and always the same; `fuzz` (`make fuzz`) tries many, new ones each time.
"""

import copy
import json
import os
import tempfile

import hypothesis
import hypothesis.configuration
from hypothesis import HealthCheck, Phase
from hypothesis import strategies as st

PROFILE = os.environ.get("HYPOTHESIS_PROFILE", "ci")
TIMES = {"ci": 1, "fuzz": int(os.environ.get("FUZZ_TIMES", "40"))}[PROFILE]
# Smaller examples are easier to read, but take a minute to find.
SHRINK = PROFILE == "fuzz"
# Nothing of the examples is kept, but hypothesis makes a folder for tables of its own.
hypothesis.configuration.set_hypothesis_home_dir(os.path.join(tempfile.gettempdir(), "hypothesis"))

# Written as marks and replaced in the text, since the json module would not write them.
MARKS = {
    '"<deep list>"': "[" * 3_000 + "]" * 3_000,
    '"<deep table>"': '{"a": ' * 3_000 + "1" + "}" * 3_000,
    '"<many digits>"': "9" * 5_000,
    '"<overflow>"': "1e999",
    '"<half a pair>"': '"\\ud800"',
}
NUMBERS = st.sampled_from(
    [0, -1, 1, 2, 3, 2**31, 2**63, -(2**63), 10**30, 0.5, -0.0, 1e308, float("nan"), float("inf")]
)
TEXTS = st.sampled_from(
    [
        "",
        "x",
        "none",
        "../../outside",
        "/etc/passwd",
        "a\nb",
        "a\rb",
        "\x00",
        "\x1b[31mred",
        "=1+1",
        "\u2028",
        "os:system",
        "é" * 300,
        "ppo",
        "CartPole-v1",
    ]
)
SCALARS = st.one_of(
    st.none(), st.booleans(), NUMBERS, TEXTS, st.sampled_from([mark[1:-1] for mark in MARKS])
)
VALUES = st.recursive(
    SCALARS,
    lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(TEXTS, inner, max_size=3)),
    max_leaves=4,
)
CHUNKS = st.sampled_from(
    [
        b"\x00",
        b"\r",
        b"\n",
        b"\xff\xfe",
        b"\xef\xbb\xbf",
        b"\xc3",
        b"{",
        b"]",
        b",",
        b'"',
        b"\\",
        b"-",
    ]
)


def fuzzed(examples):
    """Decorate a test with the profile's settings; `examples` is their number in `ci`."""
    return hypothesis.settings(
        max_examples=examples * TIMES,
        derandomize=PROFILE == "ci",
        database=None,
        deadline=None,
        print_blob=False,
        phases=[Phase.generate, Phase.shrink] if SHRINK else [Phase.generate],
        suppress_health_check=list(HealthCheck),
    )


def places(document, path=()):
    """Paths of all values in a JSON document, its own `()` first."""
    yield path
    if isinstance(document, dict):
        items = list(document.items())
    else:
        items = list(enumerate(document)) if isinstance(document, list) else []
    for key, value in items:
        yield from places(value, (*path, key))


@st.composite
def damaged_json(draw, document, indent=None):
    """The bytes of a JSON document in which a few things were changed."""
    document = copy.deepcopy(document)
    doubled = ""
    for _ in range(draw(st.integers(0, 2))):
        spots = list(places(document))
        path = draw(st.sampled_from(spots))
        if not path:
            document = draw(VALUES)
            continue
        parent = document
        for key in path[:-1]:
            parent = parent[key]
        match draw(st.sampled_from(["replace", "remove", "wrap", "swap", "add", "rename"])):
            case "replace":
                parent[path[-1]] = draw(VALUES)
            case "remove":
                del parent[path[-1]]
            case "wrap":
                parent[path[-1]] = draw(
                    st.sampled_from([[parent[path[-1]]], {"a": parent[path[-1]]}])
                )
            case "swap":
                other = document
                for key in draw(st.sampled_from(spots)):
                    other = other[key]
                parent[path[-1]] = copy.deepcopy(other)
            case "add" if isinstance(parent, dict):
                parent[draw(TEXTS)] = draw(VALUES)
            case "rename" if isinstance(parent, dict):
                parent[draw(TEXTS)] = parent.pop(path[-1])
    if isinstance(document, dict) and document and draw(st.integers(0, 7)) == 0:
        doubled = (
            json.dumps(draw(st.sampled_from(sorted(document)))) + f": {json.dumps(draw(SCALARS))}, "
        )
    text = json.dumps(document, indent=indent)
    if doubled:
        text = "{" + doubled + text[1:]
    for mark, replacement in MARKS.items():
        text = text.replace(mark, replacement)
    return draw(damaged_bytes(text.encode("utf-8", "surrogatepass"), at_least=0))


@st.composite
def damaged_bytes(draw, data, at_least=1):
    """Bytes of which some were flipped, cut, doubled, replaced or added."""
    for _ in range(draw(st.integers(at_least, 2))):
        at = draw(st.integers(0, max(len(data) - 1, 0)))
        match draw(st.sampled_from(["flip", "cut", "add", "double", "replace"])):
            case "flip" if data:
                data = data[:at] + bytes([data[at] ^ 1 << draw(st.integers(0, 7))]) + data[at + 1 :]
            case "cut":
                data = data[:at]
            case "add":
                data = data[:at] + draw(CHUNKS) + data[at:]
            case "double":
                data = data[:at] + data[at : at + 40] + data[at:]
            case "replace":
                data = draw(st.one_of(st.just(b""), st.binary(max_size=40)))
    return data


@st.composite
def damaged_lines(draw, documents):
    """The bytes of JSON lines of which one was changed, removed, doubled or moved."""
    lines = [json.dumps(document).encode() for document in documents]
    at = draw(st.integers(0, len(lines) - 1))
    match draw(st.sampled_from(["change", "remove", "double", "move", "bytes"])):
        case "change":
            lines[at] = draw(damaged_json(documents[at]))
        case "remove":
            del lines[at]
        case "double":
            lines.insert(at, lines[at])
        case "move":
            lines.insert(draw(st.integers(0, len(lines) - 1)), lines.pop(at))
        case "bytes":
            return draw(damaged_bytes(b"".join(line + b"\n" for line in lines)))
    return b"".join(line + b"\n" for line in lines)
