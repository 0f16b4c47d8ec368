"""Two versions of a contract's columns."""

from collections.abc import Iterator

from tidegate.contract.change import Change, ChangeClass
from tidegate.contract.contract import Column, Contract
from tidegate.contract.family import base
from tidegate.contract.version import Bump

_SENSITIVITY = ("public", "internal", "confidential", "restricted")
_RESTRICTED = _SENSITIVITY.index("restricted")
_BLANK_MASKS = frozenset({"null", "constant"})
"""Masks that show nothing of the value, not even whether two are alike."""


def column_changes(old: Contract, new: Contract) -> Iterator[Change]:
    """The changes of columns: there or not, type, key, classification, mask, where they are shown."""
    before = {column.name: column for column in old.columns}
    after = {column.name: column for column in new.columns}
    for name, column in before.items():
        if name not in after:
            yield _change(ChangeClass.BREAKING, column, "is gone", Bump.MAJOR)
    for name, column in after.items():
        if name not in before:
            yield _change(ChangeClass.SAFE, column, f"({column.physical_type}) is new", Bump.MINOR)
        else:
            yield from _column(before[name], column)
    if [column.name for column in old.key_columns] != [column.name for column in new.key_columns]:
        yield Change(ChangeClass.BREAKING, "key", f"the key is {_key(new)}, was {_key(old)}", Bump.MAJOR)
    yield from _shown(old, new, before, after)


def _shown(old: Contract, new: Contract, before: dict[str, Column], after: dict[str, Column]) -> Iterator[Change]:
    """Columns that stand beside the chunks in one version only."""
    was = {column.name for column in old.carried_columns}
    now = {column.name for column in new.carried_columns}
    for name in sorted((was - now) & after.keys()):
        yield _change(ChangeClass.BREAKING, after[name], "no longer stands beside the chunks", Bump.MAJOR)
    for name in sorted((now - was) & before.keys()):
        yield _change(ChangeClass.SAFE, after[name], "now stands beside the chunks, for all readers", Bump.MINOR)


def _column(was: Column, now: Column) -> Iterator[Change]:
    if was.physical_type != now.physical_type:
        yield _change(
            ChangeClass.BREAKING, now, f"is {now.physical_type}, was {was.physical_type}"
            + (" (its size)" if base(was.physical_type) == base(now.physical_type) else ""),
            Bump.MAJOR,
        )  # fmt: skip
    if was.classification != now.classification:
        yield _classification(was, now)
    if was.mask != now.mask:
        yield _mask(was, now)
    more = set(_reveal(now)) - set(_reveal(was))
    less = set(_reveal(was)) - set(_reveal(now))
    if more:
        yield _change(ChangeClass.WIDENS, now, f"is revealed to {', '.join(sorted(more))} too", Bump.MAJOR)
    elif less:
        yield _change(ChangeClass.NARROWS, now, f"is revealed to {', '.join(sorted(less))} no longer", Bump.MINOR)
    if was.required != now.required:
        text = "is always there" if now.required else "may be missing"
        yield _change(ChangeClass.SAFE, now, text, Bump.MINOR)
    if was.description != now.description:
        yield _change(ChangeClass.SAFE, now, "has another description", Bump.PATCH)


def _classification(was: Column, now: Column) -> Change:
    said = f"is classified {now.classification or 'nothing'}, was {was.classification or 'nothing'}"
    before, after = _level(was), _level(now)
    if before == after and before is not None:
        return _change(ChangeClass.SAFE, now, said, Bump.PATCH)
    if before is None or after is None or after < before:
        # A word that is not known may be lower than what it replaces.
        return _change(ChangeClass.WIDENS, now, said, Bump.MAJOR)
    return _change(ChangeClass.NARROWS, now, said, Bump.MINOR)


def _level(column: Column) -> int | None:
    """How sensitive; -1 where nothing is said, None for a word that is not known."""
    word = (column.classification or "").strip().lower()
    if not word:
        return -1
    return _SENSITIVITY.index(word) if word in _SENSITIVITY else None


def _mask(was: Column, now: Column) -> Change:
    if now.mask is None:
        return _change(ChangeClass.WIDENS, now, "is masked no longer", Bump.MAJOR)
    if was.mask is None and _level(was) == _RESTRICTED and now.mask.kind not in _BLANK_MASKS:
        said = f"was restricted and seen by nobody; its mask ({now.mask.kind}) shows something of it"
        return _change(ChangeClass.WIDENS, now, said, Bump.MAJOR)
    if was.mask is None:
        return _change(ChangeClass.NARROWS, now, f"is masked ({now.mask.kind})", Bump.MINOR)
    if now.mask.kind in _BLANK_MASKS:
        narrower = ChangeClass.SAFE if was.mask.kind in _BLANK_MASKS else ChangeClass.NARROWS
        return _change(narrower, now, f"is masked by {now.mask.kind}, was by {was.mask.kind}", Bump.MINOR)
    if was.mask.kind == now.mask.kind:
        return _change(ChangeClass.SAFE, now, f"is still masked by {now.mask.kind}", Bump.PATCH)
    return _change(ChangeClass.WIDENS, now, f"is masked by {now.mask.kind}, was by {was.mask.kind}", Bump.MAJOR)


def _reveal(column: Column) -> tuple[str, ...]:
    """The roles that may read the clear value beside the masked one."""
    roles: tuple[str, ...] = getattr(column, "reveal", ()) or getattr(column.mask, "reveal", ())
    return roles


def _change(kind: ChangeClass, column: Column, says: str, bump: Bump) -> Change:
    return Change(kind, f"column {column.name}", f"column {column.name} {says}", bump)


def _key(contract: Contract) -> str:
    return f"({', '.join(column.name for column in contract.key_columns)})"
