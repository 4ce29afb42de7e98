"""A selector that tells what is ready as Python's KqueueSelector does, where there is none."""

from __future__ import annotations

import selectors
from typing import Optional


class KqueueLike(selectors.PollSelector):
    """Reading and writing of one descriptor are two filters of kqueue(2), and two entries.

    So a descriptor may stand there twice, and since Python asks for no more entries than there are
    descriptors, some that are ready may be missing until the next time.
    """

    def select(
        self, timeout: Optional[float] = None
    ) -> list[tuple[selectors.SelectorKey, int]]:
        """Of who is ready for both, writing comes last, behind all others."""
        ready = super().select(timeout)
        reading = [(key, selectors.EVENT_READ) for key, events in ready if events & 1]
        writing = [(key, selectors.EVENT_WRITE) for key, events in ready if events & 2]
        return (reading + writing)[: max(len(self.get_map()), 1)]
