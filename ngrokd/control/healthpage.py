"""What `ngrokctl health` prints. Pure."""

from __future__ import annotations

from typing import Optional

from ngrokd.control import tones
from ngrokd.control.alive import is_healthy, is_ready, tone_of
from ngrokd.control.pages import next_step, problem_lines, state_words
from ngrokd.control.text import clean


def health_page(status: object, width: Optional[int], colour: bool = False) -> str:
    """`ngrokctl health`."""
    healthy = "healthy" if is_healthy(status) else "unhealthy"
    words = "ready" if is_ready(status) else f"not ready: {clean(state_words(status))}"
    if colour:
        words = tones.painted(words, tone_of(status))
    lines = [healthy, words]
    return "\n".join(lines + problem_lines(status, width) + next_step(status))
