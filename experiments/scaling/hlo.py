"""What a compiled program does: its kernels, how often each runs, and what each computes and moves.

XLA's own cost analysis counts the body of a loop once, however often it runs. Here the text of the
compiled program is walked, and a loop's body is taken as often as the loop says it turns
(`known_trip_count`); a loop that ends by a condition on its data is taken once, and counted. Of
several branches the longest is taken.
"""

import math
import re
from collections import Counter
from typing import NamedTuple

__all__ = ["Kernel", "kernels"]


class Kernel(NamedTuple):
    """One kernel of a program, as it is launched.

    Attributes:
        kind: `product` if it holds a matrix product, `reduce` for a sum over devices, `turn` for a
            turn of a loop that ends by its data, else `other`.
        flops: of its matrix products, a multiplication and an addition counted as two.
        narrow: the smallest dimension of the largest of them, batch dimensions aside; 0 for none.
        rows: the largest dimension of the same product.
        operations: element-wise ones, sums among them.
        transcendentals: tanh, exp, log, roots and quotients among the element-wise ones.
        moved: bytes read and written; of an array that is indexed, what is taken out or put in.
    """

    kind: str
    flops: int = 0
    narrow: int = 0
    rows: int = 0
    operations: int = 0
    transcendentals: int = 0
    moved: int = 0


class _Line(NamedTuple):
    name: str
    shape: str
    op: str
    operands: list[str]
    rest: str


_BYTES = {"pred": 1, "s8": 1, "u8": 1, "bf16": 2, "f16": 2, "s16": 2, "u16": 2, "s64": 8, "u64": 8}
_BYTES |= {"f64": 8, "f32": 4, "s32": 4, "u32": 4}
_SHAPE = re.compile(r"([a-z]+\d*)\[([\d,]*)\]")
_LINE = re.compile(
    r"^\s+(?:ROOT )?%(\S+) = (\((?:[^()]|\([^()]*\))*\)|\S+) ([a-z][a-z0-9-]*)\((.*)$"
)
_COMMENT = re.compile(r"/\*.*?\*/")
_HEAD = re.compile(r"^(ENTRY )?%(\S+) \(.*\{$")
_BRANCHES = re.compile(
    r"branch_computations=\{[^}]*\}|true_computation=\S+ false_computation=[^\s,]+"
)
_FREE = {"parameter", "get-tuple-element", "constant", "bitcast", "tuple", "after-all", "iota"}
_FREE |= {"partition-id", "replica-id", "opt-barrier", "broadcast", "all-reduce-done"}
_SLOW = {"tanh", "exponential", "exponential-minus-one", "log", "log-plus-one", "sine", "cosine"}
_SLOW |= {"power", "sqrt", "rsqrt", "divide", "logistic", "erf", "tan", "atan2", "remainder"}
_MOVES = {"reshape", "transpose", "slice", "concatenate", "copy", "pad", "reverse", "gather"}
_MOVES |= {"dynamic-slice", "dynamic-update-slice", "scatter", "bitcast-convert", *_FREE}
_TAKES = {"dynamic-slice", "gather", "slice"}


def kernels(text: str) -> dict[Kernel, int]:
    """Return each kernel of a compiled program and how often it runs.

    Args:
        text: `compiled.as_text()`.
    """
    computations, entry = _parse(text)

    def walk(name: str, times: int) -> Counter[Kernel]:
        found: Counter[Kernel] = Counter()
        lines = computations[name]
        shapes = {line.name: line.shape for line in lines}
        for line in lines:
            if line.op == "while":
                turns = re.search(r'"known_trip_count":\{"n":"(\d+)"\}', line.rest)
                if not turns:
                    found[Kernel("turn")] += times
                for part in ("body", "condition"):
                    found += walk(_called(line, part), times * (int(turns[1]) if turns else 1))
            elif line.op in ("call", "async-start"):
                found += walk(_called(line, "to_apply" if line.op == "call" else "calls"), times)
            elif line.op == "conditional":
                branches = _BRANCHES.search(line.rest)[0]
                each = [walk(branch, times) for branch in re.findall(r"=?\{?%([^\s,}]+)", branches)]
                found += max(each, key=Counter.total)
            elif line.op not in _FREE:
                found[_kernel(line, shapes, computations)] += times
        return found

    return dict(walk(entry, 1))


def _parse(text: str) -> tuple[dict[str, list[_Line]], str]:
    computations: dict[str, list[_Line]] = {}
    entry, here = "", []
    for raw in _COMMENT.sub("", text).splitlines():
        if head := _HEAD.match(raw):
            here = computations.setdefault(head[2], [])
            entry = head[2] if head[1] else entry
        elif line := _LINE.match(raw):
            inside, _, rest = line[4].partition(")")
            here.append(_Line(line[1], line[2], line[3], re.findall(r"%([^\s,)]+)", inside), rest))
    return computations, entry


def _called(line: _Line, attribute: str) -> str:
    found = re.search(rf"\b{attribute}=%([^\s,]+)", line.rest)
    if found is None:
        raise ValueError(f"{line.op} {line.name} names no {attribute}: this text is not understood")
    return found[1]


def _kernel(line: _Line, shapes: dict[str, str], computations: dict[str, list[_Line]]) -> Kernel:
    """Count one kernel: a fusion by what is fused, anything else by itself."""
    if line.op != "fusion":
        inner, outer = [line], shapes
        moved = _moved(line, shapes)
    else:
        inner = computations[_called(line, "calls")]
        outer = {part.name: part.shape for part in inner}
        moved = _moved_by_fusion(line, inner, outer)
    products = [_product(part, outer) for part in inner if part.op == "dot"]
    operations = [part for part in inner if part.op not in _MOVES | {"dot", "fusion"}]
    _, narrow, rows = max(products, default=(0, 0, 0))
    kind = "product" if products else "reduce" if "all-reduce" in line.op else "other"
    return Kernel(
        kind,
        sum(flops for flops, _, _ in products),
        narrow,
        rows,
        sum(_work(part, outer) for part in operations if part.op not in _SLOW),
        sum(_work(part, outer) for part in operations if part.op in _SLOW),
        moved,
    )


def _product(line: _Line, shapes: dict[str, str]) -> tuple[int, int, int]:
    """Return the operations of a product, and its smallest and largest dimension."""
    left, right = (_dims(shapes[name]) for name in line.operands[:2])
    out = _dims(line.shape)
    summed = math.prod(left[i] for i in _list(line.rest, "lhs_contracting_dims"))
    num_batch = math.prod(left[i] for i in _list(line.rest, "lhs_batch_dims"))
    rows = math.prod(left) // summed // num_batch
    columns = math.prod(right) // summed // num_batch
    sides = (summed, rows, columns)
    return 2 * math.prod(out) * summed, min(sides), max(sides)


def _work(line: _Line, shapes: dict[str, str]) -> int:
    """Return the elements that an operation computes; a sum reads more than it writes."""
    size = _elements(line.shape)
    if line.op in ("reduce", "reduce-window"):
        size = max(size, *(_elements(shapes.get(name, "")) for name in line.operands))
    return size


def _moved(line: _Line, shapes: dict[str, str]) -> int:
    if line.op in _TAKES:
        return 2 * _size(line.shape)
    if line.op in ("dynamic-update-slice", "scatter"):
        return 2 * _size(shapes[line.operands[1 if line.op == "dynamic-update-slice" else 2]])
    return _size(line.shape) + sum(_size(shapes.get(name, "")) for name in line.operands)


def _moved_by_fusion(line: _Line, inner: list[_Line], shapes: dict[str, str]) -> int:
    """Return what a fusion reads and writes, of indexed arrays only the part that is used."""
    total = 0
    updated = [part for part in inner if part.op in ("dynamic-update-slice", "scatter")]
    for part in inner:
        if part.op != "parameter":
            continue
        users = [user for user in inner if part.name in user.operands]
        if users and all(user.op in _TAKES and user.operands[0] == part.name for user in users):
            total += sum(_size(user.shape) for user in users)
        elif not any(user.operands[0] == part.name for user in updated):
            total += _size(part.shape)
    if updated:
        return total + sum(_moved(part, shapes) // 2 for part in updated)
    return total + _size(line.shape)


def _list(rest: str, attribute: str) -> list[int]:
    found = re.search(rf"{attribute}=\{{([\d,]*)\}}", rest)
    return [int(i) for i in found[1].split(",") if i] if found else []


def _dims(shape: str) -> list[int]:
    found = _SHAPE.search(shape)
    return [int(n) for n in found[2].split(",") if n] if found else []


def _elements(shape: str) -> int:
    return sum(
        math.prod(map(int, filter(None, dims.split(",")))) for _, dims in _SHAPE.findall(shape)
    )


def _size(shape: str) -> int:
    return sum(
        _BYTES.get(kind, 4) * math.prod(map(int, filter(None, dims.split(","))))
        for kind, dims in _SHAPE.findall(shape)
    )
