"""Druid's native expressions over numbers: parsed, then evaluated on whole columns; knows nothing of queries.

Arithmetic, comparison, logic and the common functions; long by long divides to a long. What is not here is refused
as unsupported, never guessed.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from functools import lru_cache
from typing import Any, NamedTuple, Optional

import numpy as np

from outliers.druid.simulator import refusal
from outliers.druid.simulator.table import Numbers

_TOKEN = re.compile(
    r"\s*(?:(?P<number>\d+\.?\d*(?:[eE][+-]?\d+)?|\.\d+)|(?P<name>[A-Za-z_$][\w$.]*)|\"(?P<quoted>[^\"]*)\""
    r"|'(?P<text>(?:[^'\\]|\\.)*)'|(?P<sign>&&|\|\||==|!=|<=|>=|[-+*/%^<>!(),]))"
)
_LEVELS = (("||",), ("&&",), ("==", "!="), ("<", "<=", ">", ">="), ("+", "-"), ("*", "/", "%"))


class Node(NamedTuple):
    """kind: `number`, `text`, `column`, `call` or an operator's sign; value: its literal or name."""

    kind: str
    value: Any
    parts: tuple[Node, ...] = ()


Lookup = Callable[[str], Optional[Numbers]]
Equality = Callable[[str, str], Numbers]  # column, text -> 1 where equal


def evaluate(text: str, length: int, lookup: Lookup, equal: Equality) -> Numbers:
    """Values of an expression for `length` rows; `lookup` gives a column's numbers."""
    return _Evaluator(length, lookup, equal).of(parse(text))


def columns_in(node: Node) -> set[str]:
    """Names of the columns that an expression reads."""
    own = {str(node.value)} if node.kind == "column" else set()
    return own.union(*(columns_in(part) for part in node.parts))


@lru_cache(maxsize=256)
def parse(text: str) -> Node:
    """Syntax tree of an expression; a Refusal where it has none."""
    tokens, at = [], 0
    while text[at:].strip():
        match = _TOKEN.match(text, at)
        if match is None:
            raise refusal.bad_value()
        tokens.append((str(match.lastgroup), match.group(str(match.lastgroup))))
        at = match.end()
    reader = _Reader(tokens)
    node = reader.binary(0)
    if reader.at != len(tokens):
        raise refusal.bad_value()
    return node


class _Reader:
    def __init__(self, tokens: Sequence[tuple[str, str]]) -> None:
        self.tokens, self.at = tokens, 0

    def sign(self, *wanted: str) -> Optional[str]:
        if self.at < len(self.tokens) and self.tokens[self.at][0] == "sign" and self.tokens[self.at][1] in wanted:
            self.at += 1
            return self.tokens[self.at - 1][1]
        return None

    def binary(self, level: int) -> Node:
        if level == len(_LEVELS):
            return self.unary()
        left = self.binary(level + 1)
        while (sign := self.sign(*_LEVELS[level])) is not None:
            left = Node(sign, None, (left, self.binary(level + 1)))
        return left

    def unary(self) -> Node:
        sign = self.sign("-", "!")
        if sign is not None:
            return Node("negative" if sign == "-" else "!", None, (self.unary(),))
        left = self.atom()
        return Node("^", None, (left, self.unary())) if self.sign("^") else left

    def atom(self) -> Node:
        if self.at >= len(self.tokens):
            raise refusal.bad_value()
        if self.sign("("):
            node = self.binary(0)
            self.expect(")")
            return node
        kind, text = self.tokens[self.at]
        self.at += 1
        if kind == "number":
            return Node("number", int(text) if text.isdigit() else float(text))
        if kind == "text":
            return Node("text", re.sub(r"\\(.)", r"\1", text))
        if kind == "quoted":
            return Node("column", text)
        if kind != "name":
            raise refusal.bad_value()
        return self.call(text) if self.sign("(") else Node("column", text)

    def call(self, name: str) -> Node:
        parts: list[Node] = []
        while not self.sign(")"):
            if parts:
                self.expect(",")
            parts.append(self.binary(0))
        return Node("call", name.lower(), tuple(parts))

    def expect(self, sign: str) -> None:
        if not self.sign(sign):
            raise refusal.bad_value()


class _Evaluator:
    def __init__(self, length: int, lookup: Lookup, equal: Equality) -> None:
        self.length, self.lookup, self.equal = length, lookup, equal

    def of(self, node: Node) -> Numbers:
        if node.kind == "number":
            return Numbers(np.full(self.length, node.value), None)
        if node.kind == "column":
            if node.value == "null":
                return self.nothing()
            return self.lookup(node.value) or self.nothing()
        if node.kind == "call":
            return self.call(node)
        if node.kind in ("==", "!=") and {part.kind for part in node.parts} == {"column", "text"}:
            column, text = sorted(node.parts, key=lambda part: part.kind)
            same = self.equal(column.value, text.value)
            return same if node.kind == "==" else same._replace(values=1 - same.values)
        if node.kind == "text":
            raise refusal.unsupported("a text in an expression")
        return self.operator(node.kind, [self.of(part) for part in node.parts])

    def nothing(self) -> Numbers:
        return Numbers(np.zeros(self.length, np.int64), np.ones(self.length, bool))

    def operator(self, sign: str, parts: Sequence[Numbers]) -> Numbers:
        values = [part.values for part in parts]
        null = _either(parts)
        with np.errstate(all="ignore"):
            if sign == "negative":
                return Numbers(-values[0], null)
            if sign == "!":
                return Numbers((values[0] == 0).astype(np.int64), null)
            if sign == "/":
                return Numbers(_quotient(*values), null)
            if sign in ("&&", "||"):
                return _decided(sign == "||", parts)
            return Numbers(_SIMPLE[sign](*values), null)

    def call(self, node: Node) -> Numbers:
        name = node.value
        if name == "cast" and len(node.parts) == 2:
            inner = self.of(node.parts[0])
            whole = str(node.parts[1].value).upper() == "LONG"
            return inner._replace(values=inner.values.astype(np.int64 if whole else np.float64))
        parts = [self.of(part) for part in node.parts]
        if name in ("nvl", "coalesce") and len(parts) == 2 and parts[0].null is not None:
            values = np.where(parts[0].null, parts[1].values, parts[0].values)
            null = None if parts[1].null is None else parts[0].null & parts[1].null
            return Numbers(values, null)
        if name in ("nvl", "coalesce") and parts:
            return parts[0]
        if name == "if" and len(parts) == 3:
            true = (parts[0].values != 0) & (True if parts[0].null is None else ~parts[0].null)
            nulls = [np.zeros(self.length, bool) if p.null is None else p.null for p in parts[1:]]
            null = np.where(true, *nulls)
            return Numbers(np.where(true, parts[1].values, parts[2].values), null if null.any() else None)
        function = _FUNCTIONS.get(name)
        if function is None or not parts:
            raise refusal.unsupported(f"the function {name} in an expression")
        with np.errstate(all="ignore"):
            return Numbers(function(*(part.values for part in parts)), _either(parts))


def _decided(by: bool, parts: Sequence[Numbers]) -> Numbers:
    """`||` is decided by one true part, `&&` by one false one, whatever the other is; null where none decides."""
    nulls = [np.zeros(len(part.values), bool) if part.null is None else part.null for part in parts]
    decided = np.logical_or.reduce([((part.values != 0) == by) & ~null for part, null in zip(parts, nulls)])
    null = np.logical_or.reduce(nulls) & ~decided
    return Numbers((decided == by).astype(np.int64), null if null.any() else None)


def _either(parts: Sequence[Numbers]) -> Any:
    nulls = [part.null for part in parts if part.null is not None]
    return np.logical_or.reduce(nulls) if nulls else None


def _quotient(left: Any, right: Any) -> Any:
    if left.dtype.kind == "f" or right.dtype.kind == "f":
        return left / right
    whole = np.abs(left) // np.maximum(np.abs(right), 1)  # Java truncates towards zero
    return np.where((left < 0) != (right < 0), -whole, whole)


_SIMPLE: dict[str, Callable[..., Any]] = {
    "+": np.add,
    "-": np.subtract,
    "*": np.multiply,
    "%": np.fmod,
    "^": lambda a, b: np.power(a.astype(float), b),
    "==": lambda a, b: (a == b).astype(np.int64),
    "!=": lambda a, b: (a != b).astype(np.int64),
    "<": lambda a, b: (a < b).astype(np.int64),
    "<=": lambda a, b: (a <= b).astype(np.int64),
    ">": lambda a, b: (a > b).astype(np.int64),
    ">=": lambda a, b: (a >= b).astype(np.int64),
}
_FUNCTIONS: dict[str, Callable[..., Any]] = {
    "abs": np.abs,
    "floor": np.floor,
    "ceil": np.ceil,
    "round": lambda a, digits=None: np.round(a, 0 if digits is None else int(digits[0])),
    "sqrt": np.sqrt,
    "log": np.log,
    "log10": np.log10,
    "exp": np.exp,
    "pow": lambda a, b: np.power(a.astype(float), b),
    "max": np.maximum,
    "min": np.minimum,
    "div": lambda a, b: (a // np.where(b == 0, 1, b)).astype(np.int64),
}
