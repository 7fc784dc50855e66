"""What a line of our own source says: statements, functions and equations, found in files that are really there."""

import inspect

import pytest

from tinydistill import kernels, ops, source
from tinydistill.losses import minilm, relations, tinybert


def lines_of(function):
    """(file, {text of a line: its number}) of a function."""
    lines, first = inspect.getsourcelines(function)
    return source.file_of(inspect.unwrap(function).__code__), {line.strip(): first + i for i, line in enumerate(lines)}


def test_a_statement_of_several_lines_is_one_line_and_begins_where_it_begins():
    file, lines = lines_of(minilm.attention_transfer)
    first = next(n for text, n in lines.items() if text.startswith("return relation_kl(relation_scores(student"))
    assert source.statement(file, first) == source.statement(file, first + 1)
    number, text = source.statement(file, first + 1)
    assert number == first and text.endswith("teacher_keys, mask, convention), mask, convention, divisor)")
    assert ", convention), relation_scores(teacher" in text and "\n" not in text


def test_comments_go_and_of_a_condition_its_head_stays():
    file, lines = lines_of(tinybert.attention_transfer)
    head = next(n for text, n in lines.items() if text.startswith("if convention.divisor"))
    assert source.statement(file, head) == (head, 'if convention.divisor == "element"')
    commented = next(n for text, n in lines.items() if text.startswith("seen = ") and "# (B, T)" in text)
    assert source.statement(file, commented)[1].endswith("ones_like(mask)")


def test_a_pullback_bears_the_name_of_its_op():
    file, lines = lines_of(ops.scaled_product)
    assert file == "tinydistill/ops/attention.py"
    op = inspect.unwrap(ops.scaled_product).__code__
    pullback = next(part for part in op.co_consts if inspect.iscode(part))
    put_off = next(part for part in pullback.co_consts if inspect.iscode(part))
    assert [source.function_at(code)[0] for code in (op, pullback, put_off)] == [
        "scaled_product", "scaled_product.pullback", "scaled_product.pullback"]
    assert source.function_at(op)[1].line == lines["def scaled_product(x, y):"]


@pytest.mark.parametrize("function, begins, ends", [
    (minilm.attention_transfer, "Equation: 6, 1/B sum_b 1/(A n_b)", '1/(A sum_b n_b) per "token".'),
    (relations.relation_scores, "x y^T / sqrt(K), where rows", "."),
    (kernels.plain.log_softmax, "y_j = m_j exp(x_j)", "else 0"),
    (kernels.plain.kl_divergence, "value = sum_rows w_row KL(p || q)", "(q - p)")])
def test_the_equation_of_a_function_stands_in_its_docstring_or_above_its_kernel(function, begins, ends):
    equation = source.equation_of(function.__code__)
    assert equation.startswith(begins) and equation.endswith(ends)


def test_the_equation_of_a_pullback_is_the_gradient_of_its_op():
    op = inspect.unwrap(ops.kl_divergence).__code__
    pullback = next(part for part in op.co_consts if inspect.iscode(part))
    assert source.equation_of(pullback) == "Gradient: the student alone, weight / temperature * (q - p)."
    assert source.equation_of(op).startswith("sum_rows weight * KL(softmax(teacher / temperature)")
