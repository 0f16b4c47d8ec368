"""What is known of a table before it has a contract."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class ColumnProfile:
    """`width`: bytes of an average value; `distinct_values`: about how many there are. None: no statistics."""

    name: str
    type: str
    is_enum: bool
    required: bool
    comment: str | None
    key_position: int | None
    width: float | None
    distinct_values: float | None


@dataclass(frozen=True, slots=True)
class TableProfile:
    """`rows` is Postgres' estimate. `host`, `port` and `database`: where it was read."""

    schema: str
    table: str
    comment: str | None
    rows: float
    columns: tuple[ColumnProfile, ...]
    host: str
    port: int
    database: str

    @property
    def name(self) -> str:
        """`schema.table`."""
        return f"{self.schema}.{self.table}"
