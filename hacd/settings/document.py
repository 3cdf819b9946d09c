"""The text of `conf/hacd.toml`, from the table."""

from __future__ import annotations

import msgspec

from hacd.settings.checks import default, fields_of, is_live, literal, meta, right
from hacd.settings.table import SECTIONS


def document() -> str:
    """The text of `conf/hacd.toml`: every setting at its default, explained."""
    lines = ["# hacd's settings, each at its default. Written from the table in hacd/settings/table.py."]
    lines += ["# HACD_SECTION__NAME in the environment and `--set section.name=value` override this file."]
    for section, table in SECTIONS.items():
        lines += ["", f"# {table.__doc__}", f"[{section}]"]
        for field in fields_of(section).values():
            lines += _documented(field)
    return "\n".join(lines) + "\n"


def _documented(field: msgspec.structs.FieldInfo) -> list[str]:
    about = meta(field)
    bounds = right(field).rstrip(",")
    changes = "A reload changes it." if is_live(field) else "Read at the start only."
    value = default(field)
    return [
        *("", f"# {about.description}"),
        f"# {bounds[0].upper()}{bounds[1:]}. {changes}",
        # A table that stood here empty could not be added to below.
        f"# {field.name}: none" if isinstance(value, dict) else f"{field.name} = {literal(value)}",
    ]
