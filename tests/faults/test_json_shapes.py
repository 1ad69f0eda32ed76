"""JSON of every wrong shape ends in one line that names the file, the place and the remedy."""

from typing import NotRequired, TypedDict

import pytest

from jaxrl_pg import files


class Part(TypedDict):
    """What a part of something holds."""

    id: str
    count: files.schema.Count
    scores: list[float | None]
    more: NotRequired[dict[str, int]]


GOOD = '{"id": "a", "count": 3, "scores": [1, 2.5, null], "other": {"x": [true]}}'


def test_good_json_comes_back_with_the_fields_that_nobody_named(tmp_path):
    path = tmp_path / "part.json"
    path.write_text(GOOD)
    part = files.schema.read(path, Part, "delete it")
    assert part == {"id": "a", "count": 3, "scores": [1, 2.5, None], "other": {"x": [True]}}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "is not JSON"),
        ("5", "expected object, got int"),
        ("null", "expected object, got null"),
        ("[]", "expected object, got array"),
        ('"{}"', "expected object, got str"),
        ("{}", "missing required field"),
        ('{"id": "a", "count": true, "scores": []}', r"\$\.count: expected int, got bool"),
        ('{"id": "a", "count": "3", "scores": []}', r"\$\.count: expected int, got str"),
        ('{"id": "a", "count": -1, "scores": []}', r"\$\.count: expected int >= 0"),
        ('{"id": "a", "count": 1.5, "scores": []}', r"\$\.count: expected int, got float"),
        ('{"id": "a", "count": 1e30, "scores": []}', r"\$\.count: expected int"),
        (f'{{"id": "a", "count": 1{"0" * 30}, "scores": []}}', r"\$\.count: expected int <="),
        (f'{{"id": "a", "count": 1{"0" * 9000}, "scores": []}}', "is not JSON"),
        ('{"id": "a", "count": 1, "scores": [1, "2"]}', r"\$\.scores\[1\]: expected float"),
        ('{"id": "a", "count": 1, "scores": [NaN]}', "NaN is no JSON number"),
        ('{"id": "a", "count": 1, "scores": [-Infinity]}', "-Infinity is no JSON number"),
        ('{"id": "a", "count": 1, "scores": [1e999]}', "the number 1e999 is too large"),
        ('{"id": null, "count": 1, "scores": []}', r"\$\.id: expected str, got null"),
        ('{"id": "a", "id": "b", "count": 1, "scores": []}', "the name 'id' occurs twice"),
        ('{"id": "\\ud800", "count": 1, "scores": []}', "is no UTF-8 text"),
        ('{"id": "a", "count": 1, "scores": [], "more": {"x": "y"}}', r"\$\.more\[...\]: expected"),
        ("[" * 100_000, "is nested too deeply"),
        ('{"x":' * 100_000, "is nested too deeply"),
        (b"\xff\xfe{\0}\0", "is no UTF-8 text"),
        (b"\xef\xbb\xbf{}", "is not JSON"),
        (b"\0" * 100, "is not JSON"),
        (GOOD[:-5], "is not JSON"),
        (GOOD + GOOD, "is not JSON"),
    ],
)
def test_what_is_wrong_is_said_in_one_line(tmp_path, text, message):
    path = tmp_path / "part.json"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    with pytest.raises(ValueError, match=rf"part\.json.*{message}.*: delete it$") as caught:
        files.schema.read(path, Part, "delete it")
    assert type(caught.value) is ValueError
    assert str(caught.value).isprintable()
    assert len(str(caught.value)) < 300 + len(str(path))


def test_a_file_beyond_reason_is_refused_before_it_is_read(tmp_path):
    with (tmp_path / "part.json").open("wb") as file:
        file.truncate(10**13)
    with pytest.raises(ValueError, match=r"10,000,000,000,000 bytes, more than .*: delete it"):
        files.schema.read(tmp_path / "part.json", Part, "delete it")


def test_the_place_is_named(tmp_path):
    with pytest.raises(ValueError) as caught:
        files.schema.decode(b'{"id": 3}', Part, "rows.jsonl", "line 7", "delete that line")
    assert str(caught.value) == "rows.jsonl line 7, $.id: expected str, got int: delete that line"


def test_errors_of_the_system_stay_what_they_are_and_name_the_file(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"none\.json"):
        files.schema.read(tmp_path / "none.json", Part, "delete it")
