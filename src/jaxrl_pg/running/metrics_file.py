"""The rows of a run on disk, `metrics.jsonl`: one JSON object a line, in the order of training.

A kill may cut off the last line. Only that is ever cut from the file, and only if it is the
beginning of a row; whatever else is wrong with the file is said, and the file stays as it is.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TypedDict

from jaxrl_pg import files
from jaxrl_pg.files import schema
from jaxrl_pg.running.rows import Row

__all__ = ["MetricsFile"]

_LARGEST_ROW = 1 << 20  # bytes
_LARGEST_FILE = 1 << 32
_REMEDY = "delete that line, or restore the file"


class _Head(TypedDict):
    """What every row has; the rest are numbers by name."""

    iteration: schema.Count
    timesteps: schema.Count


class MetricsFile:
    """The rows of one run: read freely, and written by the process that holds the run's lock."""

    def __init__(self, path: Path) -> None:
        """Name the file; nothing is opened yet."""
        self.path = path
        self._growing: files.GrowingFile | None = None

    def rows(self) -> list[Row]:
        """Read every whole row; a last line that is torn or still being written is left out.

        Raises:
            ValueError: naming the first line that is no row, or is out of order.
        """
        return [row for row, _ in self._rows_and_ends(self._content())]

    def append(self, lines: str) -> None:
        """Add lines, all or none. They outlive this process and, after `sync`, the machine."""
        self._opened().append(lines.encode("utf-8"))

    def sync(self) -> None:
        """Force the rows to the disk."""
        self._opened().sync()

    def drop_after(self, iteration: int) -> int:
        """Drop, in one step, the rows that are newer than an iteration; return how many."""
        self.close()
        data = self._content()
        found = list(self._rows_and_ends(data))
        kept = [end for row, end in found if row["iteration"] <= iteration]
        if len(kept) < len(found):
            files.write_atomic(self.path, data[: kept[-1] if kept else 0])
        return len(found) - len(kept)

    def require_writable(self) -> None:
        """Refuse a file that could not be added to, before anything is cut from it.

        Raises:
            ValueError: if it is a link, no plain file, or not the beginning of rows.
            OSError: if the system refuses.
        """
        if files.identity(self.path) is not None:
            self.rows()
            files.GrowingFile(self.path).close()

    def require_here(self) -> None:
        """Refuse to go on if the file, once it was written, was moved or deleted."""
        if self._growing is not None:
            self._growing.require_here()

    def close(self) -> None:
        """Close the file, if it is open."""
        if self._growing is not None:
            self._growing.close()
            self._growing = None

    def _opened(self) -> files.GrowingFile:
        """Open the file, without a torn last line."""
        if self._growing is None:
            growing = files.GrowingFile(self.path)
            try:
                data = self._content()
                whole, last = self._split(data)
                if last == b"\n":  # a whole row without its end of line
                    growing.append(last)
                elif whole < len(data):
                    growing.truncate(whole)
            except BaseException:
                growing.close()
                raise
            self._growing = growing
        return self._growing

    def _content(self) -> bytes:
        try:
            return files.read_bytes(self.path, _LARGEST_FILE)
        except FileNotFoundError:
            return b""

    def _split(self, data: bytes) -> tuple[int, bytes]:
        """Return up to where the rows go, and what the last one lacks: its end of line or nothing.

        Raises:
            ValueError: if what follows the last end of line is not the beginning of a row: with
                other ends of lines, say, all of the file would be taken for one torn row.
        """
        begin = data.rfind(b"\n") + 1
        last = data[begin:]
        if last.endswith(b"}"):
            return len(data), b"\n"
        is_torn = last[:1] in (b"{", b"") and last.count(b"{") < 2 and b"}" not in last
        if not is_torn or len(last) > _LARGEST_ROW or any(byte < 32 for byte in last):
            number = data.count(b"\n") + 1
            raise ValueError(
                f"{self.path} line {number} is neither a row nor the beginning of one: {_REMEDY}"
            )
        return begin, b""

    def _rows_and_ends(self, data: bytes) -> Iterator[tuple[Row, int]]:
        """Yield each row, and the byte after its line."""
        whole, missing = self._split(data)
        seen: set[tuple[int, bool]] = set()
        newest, end = 0, 0
        for number, line in enumerate((data[:whole] + missing).split(b"\n")[:-1], start=1):
            place = f"line {number}"
            row: Row = schema.decode(line, dict[str, schema.Numbers], self.path, place, _REMEDY)
            schema.check(row, _Head, self.path, place, _REMEDY)
            kind = row["iteration"], any(name.startswith("eval/") for name in row)
            if row["iteration"] < newest or kind in seen:
                what = f"iteration {row['iteration']} comes after iteration {newest}"
                raise ValueError(f"{self.path} {place}: {what}: {_REMEDY}")
            seen.add(kind)
            newest, end = row["iteration"], min(end + len(line) + 1, len(data))
            yield row, end
