"""A configuration as the text of a file that says all of it. Pure."""

from __future__ import annotations

import json
from collections.abc import Mapping

from ngrokd.config import Config
from ngrokd.configtext.schema import KEYS, SECTIONS, value_in


def text_of(config: Config, *comments: str) -> str:
    """Every setting, the API key included, below the comments. JSON is YAML."""
    told: dict[str, object] = {
        section: {key.name: plain(value_in(config, key)) for key in KEYS if key.section == section}
        for section in SECTIONS
    }
    told.update({key.name: plain(value_in(config, key)) for key in KEYS if not key.section})
    lines = [f"# {comment}" for comment in comments]
    return "\n".join([*lines, json.dumps(told, indent=2), ""])


def plain(value: object) -> object:
    """A value of a configuration, as JSON has it."""
    if isinstance(value, Mapping):
        return dict(value)
    return list(value) if isinstance(value, tuple) else value
