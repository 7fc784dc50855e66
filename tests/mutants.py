"""Small mechanical mistakes in Python source, one at a time: what `scripts/mutate` shows to the tests.

The mistakes: a sign, an operator, an axis, a constant, a keepdims, a removed term, a removed line. Docstrings,
annotations, f-strings, the insides of `raise` and imports stay as they are. A mistake is an edit of the text at the
place of a syntax node, so that all the rest of the file, comments included, stays what it was.
"""

import ast
import collections
import contextlib
import re
import warnings

Mutant = collections.namedtuple("Mutant", "path line kind before after source")

SWAPS = {ast.Add: ["-"], ast.Sub: ["+"], ast.Mult: ["/"], ast.Div: ["*"], ast.FloorDiv: ["*"], ast.Mod: ["*"],
         ast.Pow: ["*"], ast.BitAnd: ["|"], ast.BitOr: ["&"], ast.BitXor: ["&"], ast.LShift: [">>"], ast.RShift: ["<<"],
         ast.Lt: ["<=", ">="], ast.LtE: ["<", ">"], ast.Gt: [">=", "<="], ast.GtE: [">", "<"], ast.Eq: ["!="],
         ast.NotEq: ["=="], ast.Is: ["is not"], ast.IsNot: ["is"], ast.In: ["not in"], ast.NotIn: ["in"],
         ast.And: ["or"], ast.Or: ["and"]}
SYMBOL = re.compile(rb"#[^\n]*|is\s+not\b|not\s+in\b|(?:is|in|and|or)\b|\*\*|//|<<|>>|[<>=!]=|[-+*/%@&|^<>]")
SYMMETRIC = (ast.Add, ast.Mult, ast.BitAnd, ast.BitOr, ast.And, ast.Or)
REMOVABLE = (ast.Assign, ast.AugAssign, ast.AnnAssign, ast.Expr, ast.Return, ast.Raise, ast.Assert, ast.Delete,
             ast.Continue, ast.Break)
NOT_ENTERED = {"annotation", "returns", "type_params", "msg"}
LEFT_ALONE = (ast.Raise, ast.JoinedStr, ast.Import, ast.ImportFrom)


def mutants(path, source):
    """Every mutant of a file that parses and is not the same program, in the order of its lines."""
    text = source.encode()
    seen, found = {ast.dump(ast.parse(source))}, []
    for start, end, replacement, kind in Mistakes(text).of(ast.parse(source)):
        mutated = (text[:start] + replacement + text[end:]).decode()
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")         # `is` with a literal
            try:
                program = ast.dump(ast.parse(mutated))
            except SyntaxError:
                continue
        if program not in seen:
            seen.add(program)
            first = text[:start].count(b"\n")
            before = source.split("\n")[first:first + 1 + text[start:end].count(b"\n")]
            after = mutated.split("\n")[first:first + 1 + replacement.count(b"\n")]
            before, after = (" ".join(line.strip() for line in lines) for lines in (before, after))
            found.append(Mutant(path, first + 1, kind, before, after, mutated))
    return sorted(found, key=lambda mutant: mutant.line)


class Mistakes:
    """The edits of one source: tuples (start, end, replacement, kind) in bytes, as ast counts columns."""

    def __init__(self, text):
        self.text = text
        self.starts = [0]
        for line in text.split(b"\n"):
            self.starts.append(self.starts[-1] + len(line) + 1)

    def span(self, node):
        return self.starts[node.lineno - 1] + node.col_offset, self.starts[node.end_lineno - 1] + node.end_col_offset

    def symbol(self, left, right):
        """Where the operator between two nodes stands, comments between them left aside."""
        start, end = self.span(left)[1], self.span(right)[0]
        return next(m.span() for m in SYMBOL.finditer(self.text, start, end) if not m.group().startswith(b"#"))

    def of(self, node, parent=None):
        """The edits of a node and of all within it."""
        if isinstance(node, REMOVABLE):
            yield from self.line(node, parent)
        if isinstance(node, LEFT_ALONE):
            return
        if isinstance(node, ast.BinOp) and not is_text(node.left) and not is_text(node.right):
            yield from self.operation(node, [node.left, node.right], [node.op])
        elif isinstance(node, ast.Compare):
            yield from self.operation(node, [node.left, *node.comparators], node.ops)
        elif isinstance(node, ast.BoolOp):
            yield from self.operation(node, node.values, [node.op] * (len(node.values) - 1))
        elif isinstance(node, ast.AugAssign):
            yield from self.swaps(self.symbol(node.target, node.value), node.op)
        elif isinstance(node, ast.UnaryOp) and isinstance(node.op, (ast.USub, ast.Not)):
            start, sign = self.span(node)[0], isinstance(node.op, ast.USub)
            yield start, start + len("-" if sign else "not"), b"", "sign" if sign else "operator"
        elif isinstance(node, ast.Constant) and isinstance(node.value, (bool, int, float)):
            other = not node.value if isinstance(node.value, bool) else node.value + 1
            kind = "keepdims" if isinstance(parent, ast.keyword) and parent.arg == "keepdims" else "constant"
            yield *self.span(node), repr(other).encode(), kind
        elif isinstance(node, ast.keyword) and node.arg in ("axis", "axes"):
            with contextlib.suppress(ValueError):
                other = other_axis(ast.literal_eval(node.value))
                yield *self.span(node.value), repr(other).encode(), "axis"
                return
        test = getattr(node, "test", None)          # of if, while, assert and of a conditional expression
        if isinstance(test, (ast.Name, ast.Attribute, ast.Call, ast.Subscript)):
            start, end = self.span(test)
            yield start, end, b"not (" + self.text[start:end] + b")", "operator"
        for name, field in ast.iter_fields(node):
            for child in field if isinstance(field, list) else [field]:
                if isinstance(child, ast.AST) and name not in NOT_ENTERED:
                    yield from self.of(child, node)

    def swaps(self, place, operator):
        return [(*place, swap.encode(), "operator") for swap in SWAPS.get(type(operator), ())]

    def operation(self, node, sides, operators):
        """Each operator swapped; each term removed with the operator before it, the first one with that after it."""
        symbols = [self.symbol(*pair) for pair in zip(sides, sides[1:])]
        for place, operator in zip(symbols, operators):
            yield from self.swaps(place, operator)
        if isinstance(node, ast.Compare) or isinstance(operators[0], ast.MatMult):
            return
        start, end = self.span(node)
        if isinstance(operators[0], SYMMETRIC):
            rest = self.text[symbols[0][1]:]
            yield start, symbols[0][1] + len(rest) - len(rest.lstrip(b" ")), b"", "term"
        for (first, _), (following, _) in zip(symbols, symbols[1:] + [(end, end)]):
            yield len(self.text[:first].rstrip(b" ")), len(self.text[:following].rstrip(b" ")), b"", "term"

    def line(self, node, parent):
        """The statement replaced by pass; what stood there stays as a comment, unless something follows on its line."""
        targets = [t.id for t in getattr(node, "targets", []) if isinstance(t, ast.Name)]
        is_docstring = isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)
        is_field = isinstance(node, ast.AnnAssign) and node.value is None
        is_about_module = isinstance(parent, ast.Module) and any(name.startswith("__") for name in targets)
        if is_docstring or is_field or is_about_module:
            return
        start, end = self.span(node)
        alone = not self.text[end:].split(b"\n")[0].partition(b"#")[0].strip()
        yield start, end, b"pass  # " + self.text[start:end].split(b"\n")[0] if alone else b"pass", "line"


def is_text(node):
    return isinstance(node, ast.JoinedStr) or isinstance(node, ast.Constant) and isinstance(node.value, (str, bytes))


def other_axis(axis):
    if isinstance(axis, tuple):
        return axis[:-1] if len(axis) > 1 else None
    return {None: 0, 0: 1, -1: -2, -2: -1}.get(axis, (axis or 0) - 1)
