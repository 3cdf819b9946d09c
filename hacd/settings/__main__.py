"""Print what belongs into `conf/hacd.toml`."""

from hacd.settings.document import document

print(document(), end="")
