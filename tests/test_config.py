"""The configuration values themselves."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest

from ngrokd.config import ApiSettings, Config, ServerSettings


def test_the_state_folder_is_that_of_the_certificate() -> None:
    assert Config().state_folder == Path("/etc/ngrokd")
    server = ServerSettings(client_cert="/srv/a/own.crt", client_key="/srv/b/own.key")
    assert Config(server=server).state_folder == Path("/srv/a")


def test_the_api_key_is_in_no_text_of_the_configuration() -> None:
    config = Config(api=ApiSettings(key="very-secret"))
    assert "very-secret" not in f"{config} {config!r} {config.api}"


@pytest.mark.parametrize("section", ["api", "server", "bound_endpoints", "net", "forward"])
def test_what_threads_share_cannot_be_changed(section: str) -> None:
    config = Config()
    with pytest.raises(dataclasses.FrozenInstanceError):
        setattr(config, section, None)
    name = dataclasses.fields(getattr(config, section))[0].name
    with pytest.raises(dataclasses.FrozenInstanceError):
        setattr(getattr(config, section), name, None)


def test_two_configurations_share_no_overrides() -> None:
    assert Config().net.overrides is not Config().net.overrides
