"""What one check found, and all of them together: for people and as JSON. Pure."""

from __future__ import annotations

import enum
import textwrap
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Optional

from ngrokd.control import tones
from ngrokd.control.hostspage import copied
from ngrokd.control.text import INDENT, clean, count, note
from ngrokd.control.tones import Tone

AS_IT_SAYS = "as it says"  # the mend stands in the text
NARROWEST = 40  # columns; a narrower terminal breaks the lines itself


class Grade(enum.Enum):
    """How bad it is. The values are words for scripts."""

    OK = "ok"
    WARNING = "warning"  # it works, or will not for long
    FAILED = "failed"  # it does not work
    SKIPPED = "skipped"  # it could not be looked at, or makes no sense here


_TONES = {
    Grade.OK: Tone.GOOD,
    Grade.WARNING: Tone.WARN,
    Grade.FAILED: Tone.BAD,
    Grade.SKIPPED: Tone.FAINT,
}


@dataclass(frozen=True)
class Finding:
    """One check. `mend`: the command or setting that mends it, "" where nothing is to be mended."""

    check: str
    grade: Grade
    text: str
    mend: str = ""
    lines: tuple[str, ...] = ()  # behind the mend, to be copied as they are


def ok(check: str, text: str) -> Finding:
    """Nothing to do."""
    return Finding(check, Grade.OK, text)


def warning(check: str, text: str, mend: str) -> Finding:
    """To be seen to, some day."""
    return Finding(check, Grade.WARNING, text, mend)


def failed(check: str, text: str, mend: str, lines: Sequence[str] = ()) -> Finding:
    """To be mended."""
    return Finding(check, Grade.FAILED, text, mend, tuple(lines))


def skipped(check: str, why: str, mend: str = "") -> Finding:
    """Not looked at."""
    return Finding(check, Grade.SKIPPED, why, mend)


def how_many(findings: Sequence[Finding], grade: Grade) -> int:
    """Of that grade."""
    return sum(each.grade is grade for each in findings)


def as_json(findings: Sequence[Finding]) -> dict[str, object]:
    """The data of `ngrokctl doctor --json`."""
    return {
        "ok": not how_many(findings, Grade.FAILED),
        "failed": how_many(findings, Grade.FAILED),
        "warnings": how_many(findings, Grade.WARNING),
        "skipped": how_many(findings, Grade.SKIPPED),
        "checks": [
            {
                "check": f.check,
                "grade": f.grade.value,
                "text": f.text,
                "mend": "\n".join([f.mend, *f.lines]),
            }
            for f in findings
        ],
    }


def page(findings: Sequence[Finding], width: Optional[int], colour: bool = False) -> str:
    """One line for each check; below it what mends it. The sum comes last."""
    grades = max((len(each.grade.value) for each in findings), default=0)
    checks = max((len(each.check) for each in findings), default=0)
    lines = []
    for each in findings:
        first, *rest = each.text.split("\n")
        lead = f"{each.grade.value.ljust(grades)}  {each.check.ljust(checks)}  "
        head, *more = _wrapped(clean(lead + first), width)
        lines += [_painted(head, each.grade) if colour else head, *more]
        lines += [line for part in rest for line in note(part, width)]
        lines += [line for part in _parts(each) for line in note(part, width)]
        lines += map(copied, each.lines)
    return "\n".join([*lines, "", _sum(findings)])


def _wrapped(line: str, width: Optional[int]) -> list[str]:
    if width is None or len(line) <= width:
        return [line.rstrip()]
    return textwrap.wrap(
        line,
        max(NARROWEST, width),
        subsequent_indent=INDENT,
        break_long_words=False,
        break_on_hyphens=False,
    )


def _painted(line: str, grade: Grade) -> str:
    """Only once it is wrapped: colours take no place."""
    return tones.painted(grade.value, _TONES[grade]) + line[len(grade.value) :]


def _parts(finding: Finding) -> list[str]:
    if not finding.mend or (finding.mend == AS_IT_SAYS and "Mend: " in finding.text):
        return []
    first, *rest = finding.mend.split("\n")
    return [f"mend: {first}", *rest]


def _sum(findings: Sequence[Finding]) -> str:
    bad = how_many(findings, Grade.FAILED)
    told = [f"{count(bad, 'check')} failed" if bad else "Nothing failed"]
    warnings = how_many(findings, Grade.WARNING)
    if warnings:
        told.append(count(warnings, "warning"))
    unseen = how_many(findings, Grade.SKIPPED)
    if unseen:
        told.append(f"{unseen} not looked at")
    return f"{', '.join(told)}."
