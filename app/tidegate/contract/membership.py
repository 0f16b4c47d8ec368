"""Membership by a row elsewhere: `member(assigned)` in a rule."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Membership:
    """The caller is a member of a row when `schema.table` has a row in which `principal` is the
    caller's name and `column` is the value of the product's column `row`."""

    name: str
    schema: str
    table: str
    column: str
    row: str
    principal: str
