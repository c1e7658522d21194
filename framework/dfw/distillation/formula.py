"""Arithmetic in a configuration: a formula in named tensors, read by Python's parser; only a short list of forms is let in."""

from __future__ import annotations

import ast
import operator
import warnings
from collections.abc import Callable, Mapping, Sequence

import torch
from torch import Tensor

LONGEST = 200
"""Characters of the longest formula that is read."""

Value = Callable[[Mapping[str, Tensor]], Tensor]

_BINARY: dict[type[ast.operator], Callable[[Tensor, Tensor], Tensor]] = {
    ast.Add: operator.add,
    ast.Sub: operator.sub,
    ast.Mult: operator.mul,
    ast.Div: operator.truediv,
    ast.Pow: torch.pow,
}
_FUNCTIONS: dict[str, tuple[Callable[..., Tensor], int]] = {
    "sqrt": (torch.sqrt, 1),
    "exp": (torch.exp, 1),
    "log": (torch.log, 1),
    "abs": (torch.abs, 1),
    "min": (torch.minimum, 2),
    "max": (torch.maximum, 2),
}


def compile_formula(text: str, names: Sequence[str]) -> Value:
    """A function of tensors from a formula such as "sigma**2 * alpha" in `names`, numbers, + - * / **, and a few functions.

    Nothing is executed as Python: the tree is walked, and everything that is not arithmetic is refused. Numbers become tensors,
    so that no power of integers can run away. Raises ValueError that says what is not understood and what is.
    """
    if len(text) > LONGEST:
        raise ValueError(f"a formula has at most {LONGEST} characters, and this one {len(text)}")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of Python, about its own syntax: `1if`; what is not arithmetic is refused below
            tree = ast.parse(text.strip(), mode="eval")
    except (SyntaxError, ValueError) as error:
        reason = error.msg if isinstance(error, SyntaxError) else str(error)
        raise ValueError(f"{text!r} is not a formula: {reason}; write one as 'sigma**2 * alpha'") from None
    return _read(tree.body, text, tuple(names))


def _read(node: ast.expr, text: str, names: tuple[str, ...]) -> Value:
    match node:
        case ast.Constant(value=int() | float() as value) if not isinstance(value, bool) and abs(value) < 1e30:
            return _constant(float(value), names[0])
        case ast.Name(id=name) if name in names:
            return operator.itemgetter(name)
        case ast.UnaryOp(op=ast.USub(), operand=operand):
            inner = _read(operand, text, names)
            return lambda given: -inner(given)
        case ast.BinOp(left=left, op=sign, right=right) if type(sign) in _BINARY:
            act, a, b = _BINARY[type(sign)], _read(left, text, names), _read(right, text, names)
            return lambda given: act(a(given), b(given))
        case ast.Call(func=ast.Name(id=name), args=arguments, keywords=[]) if name in _FUNCTIONS:
            function, count = _FUNCTIONS[name]
            if len(arguments) == count:
                parts = [_read(argument, text, names) for argument in arguments]
                return lambda given: function(*(part(given) for part in parts))
    shown = ast.get_source_segment(text.strip(), node) or text
    functions = ", ".join(f"{name}({', '.join('xy'[:count])})" for name, (_, count) in _FUNCTIONS.items())
    raise ValueError(
        f"{shown!r} in {text!r} is not understood; a formula is made of {', '.join(names)}, numbers, + - * / **, {functions}"
    )


def _constant(value: float, like: str) -> Value:
    return lambda given: torch.full_like(given[like], value)
