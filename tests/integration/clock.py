"""A wall clock of the test's own for the programs that it starts, which it may set at any time."""

from __future__ import annotations

import platform
import shutil
import struct
import subprocess
from pathlib import Path
from typing import Optional

# libfaketime makes poll(2) fail with EINVAL now and then, so this changes nothing but the clock.
# The offset is read from a mapped file, so it can be another one while the program runs.
SOURCE = """
extern long syscall(long number, ...);
extern char *getenv(const char *name);
extern int open(const char *path, int flags, ...);
extern void *mmap(void *where, unsigned long bytes, int may, int how, int file, long at);
struct moment { long seconds; long fraction; };

static volatile long *offset;

int clock_gettime(int clock, struct moment *now) {
    int failed = syscall(CLOCK_GETTIME, clock, now);
    if (failed || (clock != 0 && clock != 5)) return failed;
    if (!offset) offset = mmap(0, 4096, 1, 1, open(getenv("CLOCK_FILE"), 0), 0);
    now->seconds += *offset;
    return 0;
}

int gettimeofday(struct moment *now, void *zone) {
    int failed = clock_gettime(0, now);
    now->fraction /= 1000;
    return failed;
}

long time(long *also) {
    struct moment now;
    clock_gettime(0, &now);
    if (also) *also = now.seconds;
    return now.seconds;
}
"""
PAGE_BYTES = 4096
CALL_NUMBERS = {"x86_64": 228, "aarch64": 113}  # of clock_gettime


class Clock:
    """Shared by all programs that are started with its `variables`. Owner: the test."""

    def __init__(self, folder: Path) -> None:
        compiler = _compiler()
        assert compiler is not None
        source, library = folder / "clock.c", folder / "clock.so"
        self._file = folder / "offset"
        self._file.write_bytes(bytes(PAGE_BYTES))
        source.write_text(SOURCE)
        call = f"-DCLOCK_GETTIME={CALL_NUMBERS[platform.machine()]}"
        argv = [compiler, call, "-shared", "-fPIC", "-nostdlib", "-o", str(library), str(source)]
        subprocess.run(argv, check=True)
        self.variables = {"LD_PRELOAD": str(library), "CLOCK_FILE": str(self._file)}

    def set(self, offset_s: int) -> None:
        """From now on their clock is so many seconds ahead of the true one."""
        with open(self._file, "r+b") as file:
            file.write(struct.pack("=q", offset_s))


def why_not() -> str:
    """Why there can be none, or ""."""
    if _compiler() is None:
        return "needs a C compiler (apt install tcc)"
    return "" if platform.machine() in CALL_NUMBERS else "needs a known machine"


def _compiler() -> Optional[str]:
    return shutil.which("cc") or shutil.which("tcc")
