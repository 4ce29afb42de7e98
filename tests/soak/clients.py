"""Clients that do what clients do, and say of each connection what came of it."""

from __future__ import annotations

import hashlib
import random
import socket
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass

from tests.integration.netns import Network
from tests.integration.peers import GREETING
from tests.soak.books import Books

PORT = 7000
ECHO, LATE, GREET, FLEETING = "echo.ns", "late.ns", "greet.ns", "fleeting.ns"
NAMES = (ECHO, LATE, GREET)  # those that are there all the time
PATIENCE_S = 45.0  # a connection that does nothing for so long hangs
LARGEST_BYTES = 4 << 20
SLOW_BYTES = 1 << 20
STALL_S = 4.0
BURST = 40
RESET = b"\1\0\0\0\0\0\0\0"  # linger for 0 s: close(2) sends RST
STREAM = hashlib.shake_128(b"soak").digest(2 * LARGEST_BYTES)


class Cut(Exception):
    """The connection was refused, or ended with a reset: the client sees that it failed."""


class Deviation(Exception):
    """Something that must never happen."""


@dataclass
class Client:
    """One connection after the other. Owner: its worker's thread."""

    network: Network
    books: Books
    dice: random.Random
    heard: bool = False  # the far side, on the connection at hand

    def one(self) -> None:
        """Any kind of connection, checked and entered in the books."""
        kinds: list[tuple[int, Callable[[], None]]] = [
            (6, self._echo),
            (5, self._ask_and_end),
            (3, self._greeted),
            (3, self._abort),
            (2, self._leave),
            (2, self._pause),
            (2, self._read_slowly),
            (1, self._stall),
            (2, self._single_bytes),
            (2, self._burst),
            (1, self._fleeting),
        ]
        weights, calls = zip(*kinds)
        call = self.dice.choices(calls, weights)[0]
        what = call.__name__.strip("_")
        began = time.monotonic()
        self.heard = False
        try:
            call()
        except Cut as exc:
            self.books.cut(what, began, self.heard, str(exc))
        except Deviation as exc:
            self.books.deviation(f"{what}: {exc}")
        except TimeoutError:
            self.books.deviation(f"{what}: it hangs, nothing came for {PATIENCE_S:g} s")
        except OSError as exc:
            self.books.cut(what, began, self.heard, str(exc))
        else:
            self.books.good(what)

    # Kinds

    def _echo(self) -> None:
        """Both ways at once, in pieces of any size."""
        with self._connect(ECHO) as sock:
            self._both_ways(sock, self._some(LARGEST_BYTES), 0)

    def _ask_and_end(self) -> None:
        """The whole question, its end, then the whole answer."""
        data = self._some(LARGEST_BYTES)
        with self._connect(LATE) as sock:
            sock.sendall(data)
            sock.shutdown(socket.SHUT_WR)
            answer = hashlib.sha256(data).hexdigest().encode() + b"\n" + data
            self._expect(sock, answer)
            self._expect_end(sock)
        self.books.carried(LATE, len(data), len(answer))

    def _greeted(self) -> None:
        """The server speaks first."""
        with self._connect(GREET) as sock:
            self._expect(sock, GREETING)
            sock.shutdown(socket.SHUT_WR)
            self._expect_end(sock)
        self.books.carried(GREET, 0, len(GREETING))

    def _abort(self) -> None:
        """A reset at any time: before the tunnel is there, or in the middle of something."""
        with self._connect(self.dice.choice(NAMES)) as sock:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
            if self.dice.random() < 0.7:
                sock.settimeout(1.0)
                with suppress(TimeoutError):
                    sock.sendall(self._some(LARGEST_BYTES))
            self._wait(0.2)

    def _leave(self) -> None:
        """An ordinary close, with an answer still under way."""
        with self._connect(ECHO) as sock:
            sock.sendall(self._some(30_000))
            self._wait(0.2)

    def _pause(self) -> None:
        with self._connect(ECHO) as sock:
            for _ in range(3):
                sock.sendall(b"hello")
                self._expect(sock, b"hello")
                self._wait(2.0)
        self.books.carried(ECHO, 15, 15)

    def _read_slowly(self) -> None:
        data = self._some(SLOW_BYTES)
        with self._connect(LATE, self.dice.choice((0, 4096, 65536))) as sock:
            sock.sendall(data)
            sock.shutdown(socket.SHUT_WR)
            answer = hashlib.sha256(data).hexdigest().encode() + b"\n" + data
            for start in range(0, len(answer), 1 << 15):
                self._wait(0.1)
                self._expect(sock, answer[start : start + (1 << 15)])
            self._expect_end(sock)
        self.books.carried(LATE, len(data), len(answer))

    def _stall(self) -> None:
        """More than all kernels on its way take waits for a reader that has better things to do."""
        with self._connect(ECHO, 4096) as sock:
            self._both_ways(sock, STREAM[self.dice.randrange(1 << 20) :], STALL_S)

    def _single_bytes(self) -> None:
        data = self._some(300)
        with self._connect(ECHO) as sock:
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            for byte in data:
                sock.sendall(bytes([byte]))
            self._expect(sock, data)
        self.books.carried(ECHO, len(data), len(data))

    def _burst(self) -> None:
        """Many at the same moment; the first fault is told for all."""
        sockets = []
        try:
            for _ in range(BURST):
                sockets.append(self._connect(ECHO))
            for sock in sockets:
                sock.sendall(b"x")
            for sock in sockets:
                self.heard = False
                self._expect(sock, b"x")
                self.books.carried(ECHO, 1, 1)
        finally:
            for sock in sockets:
                sock.close()

    def _fleeting(self) -> None:
        """An endpoint that comes and goes: there or not, but never hanging."""
        try:
            with self.network.connect(FLEETING, PORT, PATIENCE_S) as sock:
                sock.sendall(b"hello")
                self._expect(sock, b"hello")
        except TimeoutError:
            raise
        except (LookupError, OSError, Cut):
            return

    # Parts

    def _connect(self, name: str, room: int = 0) -> socket.socket:
        sock = self.network.new_socket()
        sock.settimeout(PATIENCE_S)
        if room:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, room)
        try:
            sock.connect((self.network.address_of(name), PORT))
        except ConnectionResetError:  # accepted and turned away before connect(2) came back
            sock.close()
            self.books.connected(name)
            raise
        except OSError:
            sock.close()
            raise
        self.books.connected(name)
        return sock

    def _some(self, most: int) -> bytes:
        """From nothing to `most`, small ones as often as large ones."""
        size = int(2 ** self.dice.uniform(0, most.bit_length() - 1)) - 1
        start = self.dice.randrange(LARGEST_BYTES)
        return STREAM[start : start + size]

    def _both_ways(self, sock: socket.socket, data: bytes, stall_s: float) -> None:
        """Send and end, and read it all back, the first byte after a while."""
        writer = threading.Thread(target=self._write, args=(sock, data))
        writer.start()
        try:
            self._wait(stall_s)
            self._expect(sock, data)
            self._expect_end(sock)
        finally:
            with suppress(OSError):  # wakes the writer, if reading has failed
                sock.shutdown(socket.SHUT_RDWR)
            writer.join(PATIENCE_S)
        self.books.carried(ECHO, len(data), len(data))

    def _write(self, sock: socket.socket, data: bytes) -> None:
        dice = random.Random(len(data))  # the reader throws the others
        try:
            while data:
                part, data = data[: (size := dice.randrange(1, 200_000))], data[size:]
                sock.sendall(part)
            sock.shutdown(socket.SHUT_WR)
        except OSError:
            return  # the reader sees it too, and tells

    def _wait(self, at_most_s: float) -> None:
        time.sleep(self.dice.uniform(0, at_most_s))

    def _expect(self, sock: socket.socket, wanted: bytes) -> None:
        """Exactly these bytes come next."""
        done = 0
        while done < len(wanted):
            part = sock.recv(min(1 << 16, len(wanted) - done))
            if not part and not done:
                raise Cut("closed without a byte")
            if not part:
                raise Deviation(f"an end in order after {done} of {len(wanted)} bytes")
            if part != wanted[done : done + len(part)]:
                raise Deviation(f"wrong bytes after {done} of {len(wanted)}")
            done += len(part)
            self.heard = True

    def _expect_end(self, sock: socket.socket) -> None:
        if sock.recv(1):
            raise Deviation("more bytes than were sent")
