"""What a row of the table of settings says beside its type and its default."""

from __future__ import annotations

from typing import Any

from msgspec import Meta

from hacd.settings import lists


def meta(text: str, unit: str = "", live: bool = False, right: str = "", **bounds: Any) -> Meta:
    """A setting that is read at the start only, unless `live`. `right`: what would be, where the type does not say."""
    return Meta(description=text, extra={"unit": unit, "live": live, "right": right}, **bounds)


def live(text: str, unit: str = "", **bounds: Any) -> Meta:
    """One that a reload and `set` change."""
    return meta(text, unit, live=True, **bounds)


def a_list(text: str, item: lists.Item) -> Meta:
    """One that is a list of such items."""
    right = f"a list of at most {item.most}, each {item.right},"
    return Meta(description=text, max_length=item.most, extra={"unit": "", "live": True, "right": right, "item": item})
