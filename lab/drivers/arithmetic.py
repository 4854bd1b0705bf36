"""Commands of a manifest with names and arithmetic in braces: ``read {lba * block_size:#x} {bytes // 512}``."""

from __future__ import annotations

import ast
import operator
import string
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

_OPERATORS: Mapping[type[ast.operator], Callable[[Any, Any], Any]] = {
    ast.Add: operator.add, ast.Sub: operator.sub, ast.Mult: operator.mul, ast.FloorDiv: operator.floordiv,
    ast.Mod: operator.mod, ast.LShift: operator.lshift, ast.RShift: operator.rshift, ast.BitAnd: operator.and_,
}  # fmt: skip
"""What may be between numbers."""
WIDEST_SHIFT = 64


def fill(command: str, values: Mapping[str, Any]) -> str:
    """Return the command with its braces filled. ValueError where one cannot be."""
    return _Filler().vformat(command, (), values)


def names_in(command: str) -> Iterator[str]:
    """Yield all names in a command's braces. ValueError for braces that do not close, or hold no arithmetic."""
    for _, field, spec, _ in string.Formatter().parse(command):
        if field is None:
            continue
        yield from (node.id for node in ast.walk(_parsed(field)) if isinstance(node, ast.Name))
        yield from names_in(spec or "")


class _Filler(string.Formatter):
    def get_field(self, field_name: str, args: Sequence[Any], kwargs: Mapping[str, Any]) -> tuple[Any, str]:
        del args  # part of the protocol: commands have names only
        return _value(_parsed(field_name), kwargs), field_name

    def check_unused_args(self, used_args: Any, args: Any, kwargs: Any) -> None:
        """Accept values that a command does not use."""


def _parsed(field: str) -> ast.expr:
    try:
        found = ast.parse(field.strip(), mode="eval").body
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        raise ValueError(f"{{{field}}} is neither a name nor arithmetic") from None
    for node in ast.walk(found):
        if not isinstance(node, ast.BinOp | ast.Name | ast.expr_context | ast.operator) and not _is_number(node):
            raise ValueError(f"{{{field}}} may hold names, whole numbers, + - * // % << >> & and parentheses")
        if isinstance(node, ast.BinOp) and type(node.op) not in _OPERATORS:
            raise ValueError(f"{{{field}}} may hold names, whole numbers, + - * // % << >> & and parentheses")
    return found


def _is_number(node: ast.AST) -> bool:
    return isinstance(node, ast.Constant) and type(node.value) is int


def _value(node: ast.expr, values: Mapping[str, Any]) -> Any:
    match node:
        case ast.Name():
            return values[node.id]
        case ast.Constant():
            return node.value
        case ast.BinOp():
            left, right = (_number(_value(side, values), side) for side in (node.left, node.right))
            if isinstance(node.op, ast.LShift | ast.RShift) and not 0 <= right <= WIDEST_SHIFT:
                raise ValueError(f"a shift by {right}")
            try:
                return _OPERATORS[type(node.op)](left, right)
            except ZeroDivisionError:
                raise ValueError(f"{ast.unparse(node)} divides by 0") from None
    raise ValueError(f"{ast.unparse(node)} is no arithmetic")


def _number(value: Any, node: ast.expr) -> int:
    if isinstance(value, int):
        return value
    try:
        return int(value, 0)  # manifests' own variables are text
    except (TypeError, ValueError):
        raise ValueError(f"{ast.unparse(node)} is {value!r}, which is no whole number") from None
