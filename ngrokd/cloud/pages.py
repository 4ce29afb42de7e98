"""A list of many pages: which page is asked for next, when, and whether the list is whole. Pure."""

from __future__ import annotations

import hashlib
import json
import re
import zlib
from collections import deque
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Optional
from urllib.parse import SplitResult, urljoin, urlsplit

from ngrokd.cloud.apierrors import NOT_FOUND, Asked, unusable
from ngrokd.errors import ApiError, ApiUnavailable

MAX_PAGES = 1000
# Of a whole list: pages that are each within their bounds must not add up to gigabytes or hours.
MAX_ITEMS = 100_000  # 1,000 pages of 100, and more than net.subnet's 65,000 addresses can serve
MAX_LIST_BYTES = 128 << 20  # 10,000 endpoints with 4 KiB of metadata and 8 of traffic policy each
MAX_KEPT = 16 << 20  # characters: 160 for each of 100,000, where a real endpoint has about 100
# 100 pages (10,000 endpoints) may take 9 s each. An API that never ends its list must not keep a
# pool thread, and a list that is older says too little about now.
MAX_LIST_S = 900.0

# ngrok grants an account 120 requests in any 60 s: a list leaves some for other machines.
PAGES_A_MINUTE = 100
MINUTE_S = 60.0
# Before a page is asked for again that was refused because the account asks too often; doubled each
# time. The pages that came are kept: on a busy account no list of 100 pages comes in one go.
FIRST_REST_S, LONGEST_REST_S = 10.0, 60.0

# Members of an item that somebody here reads, all of them text, and how much of it is of use. The
# rest can be most of a list of 10,000, or whatever makes a daemon large.
_READ = {
    # After host and port of a URL (253 and 5) comes a path, which is dropped.
    "endpoints": dict.fromkeys(("id", "url", "public_url", "proto", "scheme"), 512),
    "operators": {"id": 512, "metadata": 4096},  # MAX_METADATA_BYTES
}

# Of a next_page_uri, by RFC 9110 section 4.1 and a half more: each page's is remembered.
MAX_LINK = 12_000  # characters

_DEFAULT_PORTS = {"http": 80, "https": 443}
_DIGEST_BYTES = 16  # nobody but the API itself could bring about two pages with the same


@dataclass(frozen=True)
class Page:
    """A page that was read: the digest of its bytes, what is kept of it, and what it names next."""

    digest: bytes
    packed: bytes  # its items: a list of 100,000 would else take 100 MB, and for good
    count: int  # of them
    kept: int  # characters of them
    following: Optional[str]

    def items(self) -> list[object]:
        """As they are kept."""
        items: list[object] = json.loads(zlib.decompress(self.packed))
        return items


Pages = Mapping[str, Page]  # by URL


def digest_of(body: bytes) -> bytes:
    """Tells whether a page is the one that came there before."""
    return hashlib.blake2b(body, digest_size=_DIGEST_BYTES).digest()


class Listing:
    """One list while it is being asked for. Owner: the thread of the call.

    `url` is what is to be asked for next; None: the list is whole, and `items` is all of it.
    Times are those of one monotonic clock, in seconds.
    """

    def __init__(
        self, base: str, path: str, member: str, asked: Asked, known: Optional[Pages] = None
    ) -> None:
        """`base`: the API's URL, where the list has to stay; `member`: its name in a page;
        `known`: pages that need not be read again where they are still the same."""
        self.url: Optional[str] = base + path
        self.pages: dict[str, Page] = {}
        self.unchanged = True  # every page so far was a known one
        self._known: Pages = known or {}
        self._base = base
        self._member = member
        self._asked = asked
        self._started: Optional[float] = None
        self.count = 0
        self._bytes = 0
        self._kept = 0
        self._refusals = 0  # of the page that is asked for now
        self._sent: deque[float] = deque(maxlen=PAGES_A_MINUTE)

    @property
    def items(self) -> list[object]:
        """What is kept of all that came so far."""
        return list(self.each())

    def each(self) -> Iterator[object]:
        """The same one by one: of a list of 100,000 not even half is then in memory at once."""
        for page in self.pages.values():
            yield from page.items()

    def wait_s(self, now: float) -> float:
        """Seconds until the next page may be asked for."""
        if len(self._sent) < PAGES_A_MINUTE:
            return 0.0
        return max(0.0, self._sent[0] + MINUTE_S - now)

    def ask(self, now: float) -> None:
        """The page at `url` is being asked for."""
        if self._started is None:
            self._started = now
        self._sent.append(now)

    def recognises(self, digest: bytes, size: int, now: float) -> bool:
        """The page that came is a known one, and is taken; False: it has to be read."""
        known = self._known.get(self.url or "")
        if known is None or known.digest != digest:
            return False
        self._refuse_excess(known.count, size, now)
        self._add(known)
        return True

    def take(
        self, page: Mapping[str, object], size: int, now: float, digest: bytes = b""
    ) -> None:
        """One page came, of `size` bytes. Raises ApiUnavailable if it cannot be used."""
        items = page.get(self._member)
        if not isinstance(items, list):  # null, too: nothing here says that there are none
            raise unusable(self._asked, f"JSON {_lack(page, self._member)}")
        self._refuse_excess(len(items), size, now)
        lean = [_lean(item, _READ[self._member]) for item in items]
        kept = sum(sum(map(len, item.values())) for item in lean if item)
        link = page.get("next_page_uri")
        # ngrok's own client stops at an empty page even if that names another one.
        following = self._following(link) if items and link not in (None, "") else None
        self.unchanged = False
        packed = zlib.compress(json.dumps(lean).encode(), zlib.Z_BEST_SPEED)
        self._add(Page(digest, packed, len(lean), kept, following))

    def _add(self, page: Page) -> None:
        assert self.url is not None
        self._kept += page.kept
        if self._kept > MAX_KEPT:
            raise unusable(self._asked, f"its list has more than {MAX_KEPT >> 20} MiB of text")
        self.pages[self.url] = page
        self._refusals = 0
        self.url = page.following if page.following not in self.pages else None
        if self.url is not None and len(self.pages) >= MAX_PAGES:
            raise unusable(self._asked, f"its list has no end after {MAX_PAGES} pages")

    def rest_s(self, error: ApiError, now: float) -> float:
        """Seconds until the page that `error` is about is asked for again; raises it if never.

        A first page is not: then nothing is lost by asking later, as after any other failure. What
        a later page does not find is that page: only the first one says what exists.
        """
        if error.status == NOT_FOUND and self.pages:
            raise unusable(self._asked, f"a later page of its list: {error}", NOT_FOUND) from error
        if not (isinstance(error, ApiUnavailable) and error.rate_limited and self.pages):
            raise error
        rest = min(FIRST_REST_S * 2.0**self._refusals, LONGEST_REST_S)
        rest = max(rest, error.retry_after_s or 0.0)
        self._refusals += 1
        if now + rest - (self._started or now) > MAX_LIST_S:
            raise error
        return rest

    def _refuse_excess(self, count: int, size: int, now: float) -> None:
        """Raises ApiUnavailable if a bound of a whole list is passed; `count`: items of this page,
        `size`: its bytes."""
        self.count += count
        self._bytes += size
        if self.count > MAX_ITEMS:
            raise unusable(self._asked, f"its list has more than {MAX_ITEMS} items")
        if self._bytes > MAX_LIST_BYTES:
            raise unusable(self._asked, f"its list is larger than {MAX_LIST_BYTES >> 20} MiB")
        if now - (self._started or now) > MAX_LIST_S:
            raise unusable(self._asked, f"its list is not whole after {MAX_LIST_S:g} s")

    def _following(self, link: object) -> str:
        """The next page's URL, always below the API's own origin: the key goes nowhere else."""
        if not isinstance(link, str) or len(link) > MAX_LINK or not re.fullmatch("[!-~]+", link):
            raise unusable(self._asked, "its next_page_uri is not a URL")
        try:
            following, own = urlsplit(urljoin(self.url or "", link)), urlsplit(self._base)
            same = _origin(following) == _origin(own)
        except ValueError as exc:
            raise unusable(self._asked, f"its next_page_uri is not a URL ({exc})") from exc
        if not same:
            where = f"its next page is on another server, {following.netloc}"
            raise unusable(self._asked, where)
        query = f"?{following.query}" if following.query else ""
        return f"{own.scheme}://{own.netloc}{following.path}{query}"


def _lean(item: object, read: Mapping[str, int]) -> Optional[dict[str, str]]:
    """What is read of an item; None: it is no object."""
    if not isinstance(item, dict):
        return None
    members = ((name, item.get(name), length) for name, length in read.items())
    return {name: text[:length] for name, text, length in members if isinstance(text, str)}


def _lack(page: Mapping[str, object], member: str) -> str:
    if member not in page:
        return f"without {member}"
    return f"whose {member} are {'null' if page[member] is None else 'no list'}"


def _origin(url: SplitResult) -> tuple[str, str, Optional[int]]:
    """ValueError: the port is not one, or the URL names a user."""
    if "@" in url.netloc:
        raise ValueError("it names a user")
    return url.scheme, url.hostname or "", url.port or _DEFAULT_PORTS.get(url.scheme)
