"""A disk that is full, or no descriptors: what was there stays, and nothing stays locked."""

import errno
import os

import pytest

from jaxrl_pg import files
from jaxrl_pg.files.growing import GrowingFile

REASONS = [errno.ENOSPC, errno.EMFILE, errno.EIO, errno.EDQUOT]


def failing(number, calls_before=0):
    """A call of the system that fails, after some that do not."""
    left = [calls_before]

    def call(*args, **kwargs):
        if left[0] == 0:
            raise OSError(number, os.strerror(number))
        left[0] -= 1

    return call


@pytest.mark.parametrize("number", REASONS)
@pytest.mark.parametrize("operation", ["fsync", "replace"])
def test_what_a_failed_write_was_to_replace_stays_and_nothing_else(
    tmp_path, monkeypatch, number, operation
):
    path = tmp_path / "table.md"
    path.write_text("old")
    monkeypatch.setattr(os, operation, failing(number))
    with pytest.raises(OSError, match=r"table\.md") as caught:
        files.write_atomic(path, "new")
    assert caught.value.errno == number
    assert path.read_text() == "old"
    assert os.listdir(tmp_path) == ["table.md"]


@pytest.mark.parametrize("number", REASONS)
def test_a_lock_that_cannot_be_signed_is_free(tmp_path, monkeypatch, number):
    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", failing(number))
        with pytest.raises(OSError, match=r"lock\.owner") as caught:
            files.lock(tmp_path)
    assert caught.value.errno == number
    files.lock(tmp_path).release()


def test_a_piece_is_added_whole_or_not_at_all(tmp_path, monkeypatch):
    growing = GrowingFile(tmp_path / "metrics.jsonl")
    growing.append(b"first\n")
    write = os.write
    left = [1]

    def half(descriptor, data):
        if not left.pop():
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        left.append(0)
        return write(descriptor, data[:3])

    with monkeypatch.context() as patch:
        patch.setattr(os, "write", half)
        with pytest.raises(OSError, match=r"space.*metrics\.jsonl"):
            growing.append(b"second\n")
    growing.append(b"third\n")
    growing.close()
    assert (tmp_path / "metrics.jsonl").read_bytes() == b"first\nthird\n"
