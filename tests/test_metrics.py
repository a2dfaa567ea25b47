"""The words that this code base no longer uses, and the shape of its imports (`python -m tests.metrics` shows the figures)."""

from __future__ import annotations

import ast

from tests import metrics


def test_no_banned_word_is_left() -> None:
    assert list(metrics.banned()) == []


def test_a_banned_word_is_found() -> None:
    assert metrics.words("The road to the server, and what became of it") == ["road", "what became of"]
    assert metrics.words("on the broad side; indoors; a feedback") == []


def test_private_functions_and_short_docstrings_are_counted() -> None:
    method, dunder = 'def _x(self):\n  """One two three four five."""', 'def __len__(self):\n  """Two words."""'
    tree = ast.parse(f'"""A."""\nclass C:\n {method}\n {dunder}')
    assert metrics.private_functions({"m": tree}) == ["m:_x"]
    assert metrics.short_docstrings({"m": tree}) == ["m:: A.", "m:__len__: Two words."]


def test_no_modules_import_each_other() -> None:
    assert metrics.circles(metrics.modules()) == []


def test_no_file_and_no_function_is_too_long() -> None:
    assert [path for path, count in metrics.lengths().items() if count > metrics.LONGEST_FILE] == []
    assert [name for count, name in metrics.functions(metrics.modules()) if count > metrics.LONGEST_FUNCTION] == []
