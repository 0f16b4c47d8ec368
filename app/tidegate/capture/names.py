"""Columns' names in formats that know only letters, digits and underscores."""

import re

_ESCAPED = re.compile(r"_u([0-9a-f]{4})")


def written(name: str) -> str:
    """The column's name of one that Debezium escaped (`field.name.adjustment.mode`, "avro_unicode"): each UTF-16 unit
    that is neither letter nor digit, the underscore among them, as `_uXXXX`."""
    if "_u" not in name:
        return name
    units = _ESCAPED.sub(lambda found: chr(int(found[1], 16)), name)
    return units.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace")


def escaped(name: str) -> str:
    """The same the other way, for names of ASCII letters, digits and underscores."""
    return name.replace("_", "_u005f")
