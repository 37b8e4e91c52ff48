"""What was found, as programs and people read it."""

from __future__ import annotations

from headstart.data.checks.findings import Finding
from headstart.lint_result import LintResult

WARNING = Finding("rate", "warning", (), "word " * 30, "Lower it.")
ERROR = Finding("label-range", "error", (), "Labels of 7.", "Give 8 outputs.")


def test_an_empty_result_is_false_and_says_so():
    clean = LintResult((), ("One batch was taken.",))
    assert not clean
    assert list(clean) == []
    assert str(clean) == "Nothing found.\n(One batch was taken.)"


def test_findings_are_iterated_counted_and_the_fatal_ones_picked():
    result = LintResult((ERROR, WARNING), ())
    assert result
    assert (len(result), list(result), result.errors) == (2, [ERROR, WARNING], (ERROR,))


def test_it_reads_well_and_every_fix_is_named():
    text = str(LintResult((ERROR, WARNING), ("A note.",)))
    assert text.startswith("error: label-range: Labels of 7.\n    Fix: Give 8 outputs.\n")
    assert text.endswith("    Fix: Lower it.\n(A note.)")
    assert max(map(len, text.splitlines())) <= 100
    assert repr(LintResult((), ())) == "Nothing found."
