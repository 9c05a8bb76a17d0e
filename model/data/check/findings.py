"""The findings of a check, for a person."""

from __future__ import annotations

from collections.abc import Sequence

from model.data.check.check import Findings

SHOWN = 8
WIDEST = 33  # characters of what is counted


def print_findings(findings: Findings, frames: int) -> None:
    """Print a line for each thing that was looked at: what, how many, which."""
    rows: list[tuple[str, int, Sequence[str]]] = [
        ("clips", findings.clips, ()),
        ("labels", findings.labels, (findings.balance(),)),
        ("missing clips", len(findings.missing), _missing(findings)),
        ("broken clips", len(findings.broken), _pairs(findings.broken)),
        (f"shorter than {frames} frames", len(findings.too_short), _pairs(findings.too_short)),
        ("listed twice", len(findings.repeated), findings.repeated),
        ("… with other labels", len(findings.contradicting), findings.contradicting),
        ("also in val", len(findings.also_in_val), findings.also_in_val),
        ("the same bytes", len(findings.copies), _equal(findings.copies)),
        (
            "… with other labels",
            len(findings.copies_with_other_labels),
            _equal(findings.copies_with_other_labels),
        ),
        ("… in val too", len(findings.copies_in_val), _equal(findings.copies_in_val)),
        ("labels without clips", len(findings.empty_labels), findings.empty_labels),
        ("labels with the same tokens", len(findings.alike), _equal(findings.alike)),
        ("labels too long to read", len(findings.too_long), findings.too_long),
        ("labels that do not read like text", len(findings.not_words), _words(findings)),
    ]
    for what, count, which in rows:
        rest = len(which) - SHOWN
        text = "; ".join(which[:SHOWN]) + (f"; and {rest} more" if rest > 0 else "")
        print(f"{what:<{WIDEST}}  {count:>6}  {text}".rstrip())
    print("wrong: correct the above first" if findings.serious else "nothing is wrong")


def _pairs(values: dict[str, str] | dict[str, int]) -> list[str]:
    return [f"{name} ({value})" for name, value in values.items()]


def _equal(groups: Sequence[Sequence[str]]) -> list[str]:
    return [" = ".join(group) for group in groups]


def _missing(findings: Findings) -> list[str]:
    hints = findings.hints
    return [f"{name} ({hints[name]})" if name in hints else name for name in findings.missing]


def _words(findings: Findings) -> list[str]:
    return [
        f"{label} (say what is to be seen{f': {words}?' if words else ''})"
        for label, words in findings.not_words.items()
    ]
