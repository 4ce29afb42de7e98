"""Endpoint selectors: the part of CEL that is used to choose endpoints. Pure.

Theory of operation: a selector is compiled to a tree of functions of one endpoint's API object.
Understood are literals (text, numbers, true, false, null, lists), `endpoint.FIELD`, the methods
contains, startsWith, endsWith and matches, comparisons (== != < <= > >= in), and ! && || ().
Anything else is refused with a reason. An expression that fails on an endpoint (a comparison of a
text with a number) does not select it.
"""

from __future__ import annotations

import operator
import re
from collections.abc import Callable, Mapping, Sequence

Endpoint = Mapping[str, object]
Expression = Callable[[Endpoint], object]

MAX_DEPTH = 50  # of parentheses and negations
TOKEN = re.compile(
    r"""\s*(?:
      (?P<text>"(?:[^"\\\n]|\\.)*"|'(?:[^'\\\n]|\\.)*')
    | (?P<number>-?\d{1,15}(?:\.\d{1,15})?)
    | (?P<name>[A-Za-z_]\w*)
    | (?P<sign>\|\||&&|==|!=|<=|>=|[!<>()\[\],.])
    )""",
    re.VERBOSE,
)
COMPARISONS: Mapping[str, Callable[[object, object], object]] = {
    "==": operator.eq,
    "!=": operator.ne,
    "<": lambda a, b: a < b,  # type: ignore[operator]  # a TypeError selects nothing
    "<=": lambda a, b: a <= b,  # type: ignore[operator]
    ">": lambda a, b: a > b,  # type: ignore[operator]
    ">=": lambda a, b: a >= b,  # type: ignore[operator]
    "in": lambda a, b: a in b,  # type: ignore[operator]
}
METHODS: Mapping[str, Callable[[str, str], bool]] = {
    "contains": lambda text, part: part in text,
    "startsWith": lambda text, part: text.startswith(part),
    "endsWith": lambda text, part: text.endswith(part),
    "matches": lambda text, pattern: re.search(pattern, text) is not None,
}
CONSTANTS: Mapping[str, object] = {"true": True, "false": False, "null": None}


class SelectorError(ValueError):
    """Not a selector that is understood here. `str()` says where and why."""


def compile_selector(text: str) -> Expression:
    """A function that gives True for the endpoints it selects."""
    parser = _Parser(_tokens(text))
    expression = parser.either(0)
    if parser.peek():
        raise SelectorError(f"{parser.peek()!r} is not expected there in {text!r}")
    return expression


def selects(expressions: Sequence[Expression], endpoint: Endpoint) -> bool:
    """Any of them does; none at all selects everything."""
    return not expressions or any(_holds(expression, endpoint) for expression in expressions)


def _holds(expression: Expression, endpoint: Endpoint) -> bool:
    try:
        return expression(endpoint) is True
    except (TypeError, KeyError, AttributeError, re.error):
        return False


def _tokens(text: str) -> list[str]:
    tokens, at, stripped = [], 0, text.rstrip()
    while at < len(stripped):
        match = TOKEN.match(stripped, at)
        if not match:
            raise SelectorError(f"{stripped[at:].strip()[:20]!r} is not understood in {text!r}")
        tokens.append(match[0].strip())
        at = match.end()
    if not tokens:
        raise SelectorError("it is empty")
    return tokens


class _Parser:
    """Recursive descent over the tokens; "" is their end. Owner: `compile_selector`."""

    def __init__(self, tokens: list[str]) -> None:
        self._tokens = [*tokens, ""]
        self._at = 0

    def peek(self) -> str:
        """The next token."""
        return self._tokens[self._at]

    def _take(self, *expected: str) -> str:
        token = self.peek()
        if expected and token not in expected:
            raise SelectorError(f"expected {expected[0]!r} instead of {token or 'its end'!r}")
        if not token:
            raise SelectorError("it ends too early")
        self._at += 1
        return token

    def either(self, depth: int) -> Expression:
        """a || b"""
        if depth > MAX_DEPTH:
            raise SelectorError("it is nested too deeply")
        terms = [self._both(depth)]
        while self.peek() == "||":
            self._take()
            terms.append(self._both(depth))
        return terms[0] if len(terms) == 1 else lambda e: any(term(e) is True for term in terms)

    def _both(self, depth: int) -> Expression:
        terms = [self._comparison(depth)]
        while self.peek() == "&&":
            self._take()
            terms.append(self._comparison(depth))
        return terms[0] if len(terms) == 1 else lambda e: all(term(e) is True for term in terms)

    def _comparison(self, depth: int) -> Expression:
        left = self._unary(depth)
        if self.peek() not in COMPARISONS:
            return left
        compare = COMPARISONS[self._take()]
        right = self._unary(depth)
        return lambda e: compare(left(e), right(e))

    def _unary(self, depth: int) -> Expression:
        if depth > MAX_DEPTH:
            raise SelectorError("it is nested too deeply")
        if self.peek() != "!":
            return self._with_methods(self._primary(depth), depth)
        self._take()
        negated = self._unary(depth + 1)
        return lambda e: negated(e) is False

    def _with_methods(self, subject: Expression, depth: int) -> Expression:
        while self.peek() == ".":
            self._take()
            name = self._take()
            if name not in METHODS:
                raise SelectorError(f"the method {name!r} is not understood")
            self._take("(")
            argument = self.either(depth + 1)
            self._take(")")
            subject = _call(METHODS[name], subject, argument)
        return subject

    def _primary(self, depth: int) -> Expression:
        token = self._take()
        if token == "(":
            inner = self.either(depth + 1)
            self._take(")")
            return inner
        if token == "[":
            return self._list(depth)
        if token == "endpoint":
            self._take(".")
            field = self._take()
            if not field.isidentifier():
                raise SelectorError(f"{field!r} is not the name of a field")
            return lambda e: e[field]
        return _constant(_value(token))

    def _list(self, depth: int) -> Expression:
        items: list[Expression] = []
        while self.peek() != "]":
            items.append(self.either(depth + 1))
            if self.peek() != "]":
                self._take(",")
        self._take("]")
        return lambda e: [item(e) for item in items]


def _call(
    method: Callable[[str, str], bool], subject: Expression, argument: Expression
) -> Expression:
    def called(endpoint: Endpoint) -> object:
        text, part = subject(endpoint), argument(endpoint)
        if not isinstance(text, str) or not isinstance(part, str):
            raise TypeError("methods are for texts")
        return method(text, part)

    return called


def _constant(value: object) -> Expression:
    return lambda _: value


def _value(token: str) -> object:
    if token in CONSTANTS:
        return CONSTANTS[token]
    if token[0] in "\"'":
        return re.sub(r"\\(.)", r"\1", token[1:-1])
    if token[0].isdigit() or token[0] == "-":
        return float(token) if "." in token else int(token)
    raise SelectorError(f"{token!r} is not understood; fields are written endpoint.NAME")
