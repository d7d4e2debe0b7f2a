"""`{{name}}` in the words of a bulk message: what each recipient has a value of their own for.

In HTML a value is text: it is escaped. There is nothing else to it, no condition and no loop: who
needs one has Django's templates, before the message is made.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from html import escape

PLACEHOLDER = re.compile(r"\{\{\s*([a-z][a-z0-9_]{0,39})\s*\}\}")


def names_in(*texts: str) -> set[str]:
    """The placeholders of these texts."""
    return {found[1] for text in texts for found in PLACEHOLDER.finditer(text)}


def fill(text: str, variables: Mapping[str, str], *, html: bool = False) -> str:
    """The text with its values. Raises KeyError for one that is not there."""
    return respell(text, lambda name: escape(variables[name]) if html else variables[name])


def respell(text: str, spelling: Callable[[str], str]) -> str:
    """The text with its placeholders as a provider writes them, or with what stands for them."""
    return PLACEHOLDER.sub(lambda found: spelling(found[1]), text)
