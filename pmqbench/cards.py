"""The head of a model's or data set's card (README.md): YAML between two lines of dashes, as the hub keeps it."""

from __future__ import annotations

import logging
import re
from typing import Any

import yaml

log = logging.getLogger(__name__)


def card_head(text: str) -> dict[str, Any]:
    """What the head states; nothing, with a warning, if it cannot be read."""
    head = re.match(r"---\r?\n(.*?)\r?\n---", text, re.DOTALL)
    if head is None:
        return {}
    try:
        stated = yaml.safe_load(head[1])
    except yaml.YAMLError as error:
        log.warning("the head of a card is no YAML and is left out: %s", error)
        return {}
    return stated if isinstance(stated, dict) else {}
