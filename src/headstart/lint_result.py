"""What ``headstart.lint`` found, for programs and for people."""

from __future__ import annotations

import textwrap
from collections.abc import Iterator
from dataclasses import dataclass

from headstart.data.checks.findings import Finding

__all__ = ["LintResult"]


@dataclass(frozen=True, repr=False)
class LintResult:
    """What was found in a training set-up; empty, and false, where nothing was.

    Attributes:
        findings: What was found, the gravest first. ``error``: training would fail or learn
            nothing of what is meant; ``warning``: it would go worse than it need; ``note``: worth
            knowing. Each ``hint`` is the fix.
        notes: What was assumed, and what could not be looked at, one sentence each.
    """

    findings: tuple[Finding, ...]
    notes: tuple[str, ...]

    def __iter__(self) -> Iterator[Finding]:
        """Iterate over the findings."""
        return iter(self.findings)

    def __len__(self) -> int:
        """Return how many findings there are."""
        return len(self.findings)

    @property
    def errors(self) -> tuple[Finding, ...]:
        """The findings with which training should not begin."""
        return tuple(finding for finding in self.findings if finding.severity == "error")

    def __str__(self) -> str:
        """Return all of it for people."""
        lines = [] if self.findings else ["Nothing found."]
        for finding in self.findings:
            lines.append(_wrapped(f"{finding.severity}: {finding.kind}: {finding.message}", ""))
            lines += [_wrapped(f"Fix: {finding.hint}", "    ")] if finding.hint else []
        return "\n".join([*lines, *(_wrapped(f"({note})", "") for note in self.notes)])

    __repr__ = __str__


def _wrapped(text: str, indent: str) -> str:
    lines = textwrap.wrap(
        text,
        96,
        initial_indent=indent,
        subsequent_indent=indent or "    ",
        break_long_words=False,
        break_on_hyphens=False,
    )
    return "\n".join(lines)
