"""A function that is asked the same again is not called, and never answers for something else."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from ngrokd.reconcile.latest import Latest


class Adding:
    """Counts its calls."""

    def __init__(self) -> None:
        self.calls = 0

    def __call__(self, *numbers: int) -> list[int]:
        self.calls += 1
        return [sum(numbers)]


def test_the_same_question_gets_the_very_same_answer_without_a_call() -> None:
    adding = Adding()
    latest = Latest(adding)
    first = latest(1, 2)
    assert latest(1, 2) is first and adding.calls == 1
    assert latest(1, 3) == [4] and adding.calls == 2
    assert latest(1, 2) == [3] and adding.calls == 3


@given(st.lists(st.tuples(st.integers(0, 2), st.integers(0, 2))))
def test_it_answers_as_the_function_does(questions: list[tuple[int, int]]) -> None:
    latest = Latest(Adding())
    for question in questions:
        assert latest(*question) == [sum(question)]


def test_what_comes_to_the_same_is_answered_without_a_call_and_anything_else_is_not() -> None:
    adding = Adding()
    latest = Latest(adding)
    first = latest(1, 2)
    latest.knows(2, 1)
    assert latest(2, 1) is first and adding.calls == 1
    assert latest(2, 2) == [4] and latest(1, 2) == [3] and adding.calls == 3
