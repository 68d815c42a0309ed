"""Program text to a program.

Recursive descent over a tokenised text; every limit is checked, so hostile text gives ParseError.
The text holds no weights: the caller adds ``params``.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from oarlock.errors import ParseError, TypeMismatch, UnknownName, UserError
from oarlock.ir.dim import Dim, Size, dim_max, dim_min
from oarlock.ir.graph import Graph, Node, Origin, Program, State, Value
from oarlock.ir.op import get
from oarlock.ir.signature import Signature
from oarlock.ir.types import DType, TensorType

MAX_DEPTH = 32
MAX_TEXT = 1 << 25
MAX_LINE = 1 << 22  # characters: tokens of one line are in memory together
MAX_NODES = 1 << 18
MAX_LINES = 1 << 19
MAX_NUMBER = 1 << 63
MAX_DIGITS = 40

_TOKEN = re.compile(
    r"""(?P<space>[ \t\r]+)
      |(?P<string>"(?:[^"\\\n]|\\.)*")
      |(?P<value>%[A-Za-z0-9_.]+)
      |(?P<float>\d+\.\d*(?:[eE][+-]?\d+)?|\d+[eE][+-]?\d+)
      |(?P<int>\d+)
      |(?P<name>[A-Za-z_][A-Za-z0-9_]*)
      |(?P<mark>//|[-+*%(){}\[\],;:=#])""",
    re.VERBOSE | re.ASCII,
)


@dataclass(frozen=True, slots=True)
class Token:
    """kind: a group of ``_TOKEN``, ``newline`` or ``end``; line: counted from 1."""

    kind: str
    text: str
    line: int


def parse(text: str) -> Program:
    """The program that ``text`` prints.  Raises: ParseError with the line."""
    if not isinstance(text, str):
        raise ParseError(f"expected text, got {type(text).__name__}")
    if len(text) > MAX_TEXT:
        raise ParseError(f"text of {len(text)} characters; the limit is {MAX_TEXT}")
    if (count := text.count("\n")) > MAX_LINES:
        raise ParseError(f"text of {count} lines; the limit is {MAX_LINES}")
    lines = text.split("\n")
    header, rest = _split_header(lines)
    parser = _Parser(_Tokens(lines[rest:], rest + 1), header.dims)
    graph = parser.graph("graph")
    parser.skip_newlines()
    parser.expect("end")
    return _finish(header, graph)


def parse_size(text: str, dims: dict[str, Dim]) -> Size:
    """The size that ``text`` prints.  Raises: ParseError."""
    parser = _Parser(_Tokens([text], 1), dims)
    size = parser.size()
    parser.expect("end")
    return size


@dataclass
class _Header:
    dims: dict[str, Dim]
    state: list[State]
    signature: Signature


_DIM = re.compile(r"dim ([A-Za-z_]\w*) in \[(\d{1,18}|-inf), (\d{1,18}|inf)\]$", re.ASCII)
_STATE = re.compile(r'state ("(?:[^"\\]|\\.)*") = output (\d{1,9})$')


def _split_header(lines: list[str]) -> tuple[_Header, int]:
    if lines[0].strip() != "oarlock 1":
        raise ParseError(f"line 1: expected `oarlock 1`, got {lines[0][:40]!r}")
    header = _Header({}, [], Signature())
    for i, line in enumerate(lines[1:], 1):
        if line.startswith("graph"):
            return header, i
        if len(line) > MAX_LINE:
            raise ParseError(f"line {i + 1}: {len(line)} characters; the limit is {MAX_LINE}")
        try:
            _header_line(header, line)
        except (ValueError, UserError, RecursionError, TypeError, AttributeError) as error:
            raise ParseError(f"line {i + 1}: {str(error)[:200]}") from None
    raise ParseError("no graph in the text")


def _header_line(header: _Header, line: str) -> None:
    if match := _DIM.match(line):
        name, low, high = match.groups()
        if name in header.dims:
            raise ParseError(f"dim {name} is declared twice")
        least = None if low == "-inf" else int(low)
        header.dims[name] = Dim(name, least, None if high == "inf" else int(high))
    elif match := _STATE.match(line):
        header.state.append(State(json.loads(match[1]), int(match[2])))
    elif line.startswith("signature "):
        header.signature = Signature.from_json(json.loads(line[len("signature ") :]))
    elif line.strip():
        raise ParseError(f"expected dim, state, signature or graph, got {line[:40]!r}")


def _finish(header: _Header, graph: Graph) -> Program:
    for state in header.state:
        if state.output >= len(graph.outputs):
            count = len(graph.outputs)
            raise ParseError(f"state {state.name!r}: output {state.output} of {count}")
    return Program(graph, dims=header.dims, state=tuple(header.state), signature=header.signature)


def _tokenise(text: str, line: int) -> Iterator[Token]:
    """The tokens of one line."""
    if len(text) > MAX_LINE:
        raise ParseError(f"line {line}: {len(text)} characters; the limit is {MAX_LINE}")
    position = 0
    while position < len(text):
        match = _TOKEN.match(text, position)
        if match is None:
            raise ParseError(f"line {line}: unexpected {text[position : position + 10]!r}")
        kind = match.lastgroup
        assert kind is not None
        if kind != "space":
            yield Token(kind, match[0], line)
        position = match.end()


class _Tokens:
    """Tokens by index, made line by line as they are asked for; those before ``forget`` are gone."""

    def __init__(self, lines: list[str], first_line: int) -> None:
        self.lines, self.first_line = lines, first_line
        self.read = 0
        self.known: list[Token] = []

    def __getitem__(self, i: int) -> Token:
        while i >= len(self.known) and self.read < len(self.lines):
            line = self.first_line + self.read
            self.known += _tokenise(self.lines[self.read], line)
            self.read += 1
            last = self.read == len(self.lines)
            self.known.append(Token("end" if last else "newline", "" if last else "\n", line))
        return self.known[min(i, len(self.known) - 1)]

    def __setitem__(self, i: int, token: Token) -> None:
        self.known[i] = token

    def forget(self, count: int) -> None:
        """Drop the first ``count``."""
        del self.known[:count]


class _Parser:
    def __init__(self, tokens: _Tokens, dims: dict[str, Dim]) -> None:
        self.tokens, self.dims, self.position, self.depth = tokens, dims, 0, 0
        self.nodes = 0
        self.values: dict[str, Value] = {}

    @property
    def token(self) -> Token:
        return self.tokens[self.position]

    def next(self) -> Token:
        token = self.token
        self.position += token.kind != "end"
        return token

    def error(self, expected: str) -> ParseError:
        got = self.token.text.strip() or ("end of line" if self.token.kind == "newline" else "end")
        return ParseError(f"line {self.token.line}: expected {expected}, got {got[:40]!r}")

    def expect(self, kind: str, text: str | None = None) -> Token:
        if self.token.kind != kind or (text is not None and self.token.text != text):
            raise self.error(text or kind)
        return self.next()

    def accept(self, text: str) -> bool:
        if self.token.text == text and self.token.kind in ("mark", "name"):
            self.next()
            return True
        return False

    def skip_newlines(self) -> None:
        while self.token.kind == "newline":
            self.next()

    def enter(self) -> None:
        self.depth += 1
        if self.depth > MAX_DEPTH:
            raise ParseError(f"line {self.token.line}: nested deeper than {MAX_DEPTH}")

    def graph(self, name: str) -> Graph:
        self.enter()
        self.expect("name", name)
        outer, self.values = self.values, {}
        self.expect("mark", "(")
        inputs = self.inputs()
        self.expect("mark", "{")
        self.expect("newline")
        graph = Graph(inputs)
        while not self.accept("return"):
            self.skip_newlines()
            if self.token.text != "return":
                graph.nodes.append(self.node())
        graph.outputs = self.operands({"newline"})
        self.expect("newline")
        self.skip_newlines()
        self.expect("mark", "}")
        self.values = outer
        self.depth -= 1
        return graph

    def inputs(self) -> list[Value]:
        inputs: list[Value] = []
        while not self.accept(")"):
            if inputs:
                self.expect("mark", ",")
            name = self.expect("value").text[1:]
            self.expect("mark", ":")
            inputs.append(Value(self.type(), name=None if name.isdigit() else name))
            self.define(name, inputs[-1])
        return inputs

    def define(self, name: str, value: Value) -> None:
        if name in self.values:
            raise ParseError(f"line {self.token.line}: %{name} is defined twice")
        self.values[name] = value

    def operands(self, stop: set[str]) -> list[Value]:
        found: list[Value] = []
        while self.token.kind not in stop and self.token.text not in stop:
            if found:
                self.expect("mark", ",")
            name = self.expect("value").text[1:]
            if name not in self.values:
                raise ParseError(f"line {self.token.line}: %{name} is not defined")
            found.append(self.values[name])
        return found

    def node(self) -> Node:
        self.tokens.forget(self.position)
        self.position = 0
        self.nodes += 1
        if self.nodes > MAX_NODES:
            raise self.error(f"at most {MAX_NODES} nodes")
        line = self.token.line
        names = self.output_names()
        op_name = self.expect("name").text
        inputs, attributes = self.call(op_name)
        count = self.graph_count()
        self.expect("mark", ":")
        types = self.types()
        if op_name == "param":
            attributes["type"] = types[0]
        origin = self.origin()
        graphs = [self.subgraph(i) for i in range(count)]
        node = self.make(line, op_name, attributes, inputs, graphs, origin)
        if [v.type for v in node.outputs] != types or len(names) != len(types):
            got = ", ".join(str(v.type) for v in node.outputs)
            raise ParseError(
                f"line {line}: {op_name} gives {got}, not {', '.join(map(str, types))}"
            )
        for name, value in zip(names, node.outputs):
            self.define(name, value)
        return node

    def make(
        self,
        line: int,
        op_name: str,
        attributes: dict[str, Any],
        inputs: list[Value],
        graphs: list[Graph],
        origin: Origin,
    ) -> Node:
        try:
            return Node(get(op_name)(**attributes), inputs, graphs, origin)
        except (TypeMismatch, UnknownName) as error:
            raise ParseError(f"line {line}: {error}") from None
        except (
            UserError,
            ArithmeticError,
            LookupError,
            TypeError,
            ValueError,
            AttributeError,
        ) as e:
            # Attributes of a wrong Python type surface as these inside `infer`.
            raise ParseError(f"line {line}: {op_name}: {type(e).__name__}: {e}") from None

    def output_names(self) -> list[str]:
        names: list[str] = []
        while self.token.kind == "value":
            names.append(self.next().text[1:])
            if not self.accept(","):
                self.expect("mark", "=")
                break
        return names

    def call(self, op_name: str) -> tuple[list[Value], dict[str, Any]]:
        if op_name == "param":
            return [], {"key": self.string()}
        self.expect("mark", "(")
        inputs = self.operands({";", ")"})
        attributes: dict[str, Any] = {}
        if self.accept(";"):
            while not self.accept(")"):
                if attributes:
                    self.expect("mark", ",")
                name = self.expect("name").text
                self.expect("mark", "=")
                attributes[name] = self.attribute()
        else:
            self.expect("mark", ")")
        return inputs, attributes

    def graph_count(self) -> int:
        if not self.accept("with"):
            return 0
        count = self.integer()
        self.expect("name", "graphs")
        if count > 4:
            raise ParseError(f"line {self.token.line}: {count} graphs; an op has at most 4")
        return count

    def subgraph(self, i: int) -> Graph:
        self.expect("name", "graph")
        if self.integer() != i:
            raise self.error(f"graph {i}")
        self.position -= 1
        self.tokens[self.position] = Token("name", "subgraph", self.token.line)
        graph = self.graph("subgraph")
        self.expect("newline")
        return graph

    def types(self) -> list[TensorType]:
        types = [self.type()]
        while self.accept(","):
            types.append(self.type())
        return types

    def origin(self) -> Origin:
        origin = Origin()
        if self.accept("#"):
            origin = Origin(self.string(), self.string())
        self.expect("newline")
        return origin

    def string(self) -> str:
        token = self.expect("string")
        try:
            text = json.loads(token.text)
            text.encode()  # no lone surrogates
            return text
        except ValueError:
            raise ParseError(f"line {token.line}: bad string {token.text[:40]}") from None

    def integer(self) -> int:
        token = self.expect("int")
        if len(token.text) > MAX_DIGITS or int(token.text) >= 2 * MAX_NUMBER:
            raise ParseError(f"line {token.line}: number of {len(token.text)} digits is too large")
        return int(token.text)

    def type(self) -> TensorType:
        token = self.expect("name")
        if token.text not in DType.all:
            raise ParseError(f"line {token.line}: no element type {token.text[:40]!r}")
        self.expect("mark", "[")
        shape: list[Size] = []
        while not self.accept("]"):
            if shape:
                self.expect("mark", ",")
            shape.append(self.size())
            if len(shape) > 64:
                raise ParseError(f"line {token.line}: rank above 64")
            if isinstance(shape[-1], int) and not 0 <= shape[-1] < MAX_NUMBER:
                raise ParseError(f"line {token.line}: size {shape[-1]}")
        return TensorType(DType.all[token.text], tuple(shape))

    def size(self) -> Size:
        """sum of products; ``//`` and ``%`` bind like ``*``."""
        self.enter()
        total = self.size_term()
        while self.token.text in ("+", "-") and self.token.kind == "mark":
            sign = 1 if self.next().text == "+" else -1
            total = total + sign * self.size_term()
        self.depth -= 1
        return total

    def size_term(self) -> Size:
        value = self.size_factor()
        for _ in range(64):
            if self.accept("*"):
                value = value * self.size_factor()
            elif self.accept("//"):
                value = self.divide(value, "//")
            elif self.accept("%"):
                value = self.divide(value, "%")
            else:
                return value
            if isinstance(value, Dim) and len(value.terms) > 256:
                raise self.error("a size of fewer terms")
        raise self.error("a size of fewer factors")

    def divide(self, value: Size, mark: str) -> Size:
        by = self.size_factor()
        if by == 0:
            raise self.error("a divisor that is not zero")
        return value // by if mark == "//" else value % by

    def size_factor(self) -> Size:
        self.enter()
        try:
            return self._size_factor()
        finally:
            self.depth -= 1

    def _size_factor(self) -> Size:
        if self.accept("-"):
            return 0 - self.size_factor()
        if self.accept("("):
            value = self.size()
            self.expect("mark", ")")
            return value
        if self.token.kind == "int":
            return self.integer()
        name = self.expect("name").text
        if name in ("min", "max"):
            self.expect("mark", "(")
            a = self.size()
            self.expect("mark", ",")
            b = self.size()
            self.expect("mark", ")")
            return dim_min(a, b) if name == "min" else dim_max(a, b)
        if name not in self.dims:
            raise ParseError(f"line {self.token.line}: dim {name[:40]} is not declared")
        return self.dims[name]

    def attribute(self) -> Any:
        token = self.token
        if token.kind == "string":
            return self.string()
        if token.kind == "name" and token.text in _WORDS:
            self.next()
            return _WORDS[token.text]
        if token.kind == "name" and token.text in DType.all:
            if self.tokens[self.position + 1].text == "[":
                return self.type()
            self.next()
            return DType.all[token.text]
        if token.kind == "mark" and token.text == "(":
            return self.parenthesis()
        if (number := self.number()) is not None:
            return number
        return self.size()

    def number(self) -> float | None:
        """A float, or nothing consumed."""
        start = self.position
        sign = -1.0 if self.accept("-") else 1.0
        if self.token.kind == "float" or self.token.text in ("inf", "nan"):
            return sign * float(self.next().text)
        self.position = start
        return None

    def parenthesis(self) -> Any:
        """A tuple, or a size that begins with a parenthesis."""
        start = self.position
        items = self.tuple()
        if items is not None and self.token.text not in ("*", "+", "-", "//", "%"):
            return items
        self.position = start
        return self.size()

    def tuple(self) -> tuple[Any, ...] | None:
        self.enter()
        self.expect("mark", "(")
        items: list[Any] = []
        comma = True
        while not self.accept(")"):
            if not comma:
                raise self.error("`,` or `)`")
            items.append(self.attribute())
            comma = self.accept(",")
            self.skip_newlines()
        self.depth -= 1
        return tuple(items) if comma or len(items) != 1 else None


_WORDS: dict[str, Any] = {
    "None": None,
    "True": True,
    "False": False,
    "inf": float("inf"),
    "nan": float("nan"),
}
