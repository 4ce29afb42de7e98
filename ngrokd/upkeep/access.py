"""How the API is reached now: its URL and the key."""

from __future__ import annotations

import logging
from typing import Callable, Optional

from ngrokd import __version__, logs
from ngrokd.cloud.api import Api
from ngrokd.cloud.identity import Identity
from ngrokd.config import Config
from ngrokd.errors import StateError
from ngrokd.messages import ApiAnswered, Message

logger = logging.getLogger(__name__)


class Access:
    """Owner: main thread. An `Api` that it gives may be used by any thread."""

    def __init__(
        self, config: Config, identity: Identity, post: Callable[[Message], None]
    ) -> None:
        self._config = config
        self._identity = identity
        self._post = post
        self._base: Optional[Api] = None
        self.key = ""

    @property
    def url(self) -> str:
        """Of the API."""
        return self._config.api.url

    def knows(self, key: str) -> bool:
        """It is in use, or would be without the one that was set at run time."""
        return key in (self.key, self._config.api.key)

    def take_up_key(self) -> None:
        """The key set at run time, else the configured one. Raises StateError."""
        self.key = self._identity.saved_api_key() or self._config.api.key
        logs.keep_secret(self.key)

    def configure(self, config: Config) -> bool:
        """A new configuration; whether another API or key is to be asked."""
        old, self._config, self._base = self._config, config, None
        if config.api == old.api:
            return False
        try:
            self.take_up_key()
        except StateError as exc:
            logger.warning("the API key in use stays: %s", exc)
        return True

    def api(self, key: str = "") -> Api:
        """Asked with this key, else with ours."""
        if self._base is None:
            self._base = Api(
                self.url, "", __version__, on_request=lambda seen: self._post(ApiAnswered(seen))
            )
        return self._base.with_key(key or self.key)

    def renew(self) -> None:
        """After a failure: this machine's trust anchors or proxies may be others by now."""
        self._base = None
