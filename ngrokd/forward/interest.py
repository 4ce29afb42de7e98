"""What a socket may be waited for, in the bits of the standard library's `selectors`."""

READ = 1  # selectors.EVENT_READ; also reported for an end or a reset
WRITE = 2  # selectors.EVENT_WRITE; also reported for a reset
