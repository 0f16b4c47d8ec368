"""A column's properties `mask`, `reveal` and `embed`."""

from collections.abc import Mapping
from typing import Any

from tidegate.contract.contract import Column
from tidegate.contract.finding import did_you_mean
from tidegate.contract.findings import Findings
from tidegate.contract.identifier import is_role
from tidegate.contract.mask import Mask, MaskKind, unfit
from tidegate.contract.page import Path

_PLAIN: tuple[MaskKind, ...] = ("null", "hash", "partial_email", "last4")
PROPERTIES = ("mask", "reveal", "embed")

Values = Mapping[str, tuple[Any, Path]]


def read_mask(value: Any, path: Path, findings: Findings) -> Mask | None:
    """`mask`: null, hash, partial_email, last4 or `{constant: value}`."""
    allowed = (*_PLAIN, "{constant: …}")
    if value is None:
        return Mask("null")  # YAML reads a bare null as nothing
    for kind in _PLAIN:
        if value == kind:
            return Mask(kind)
    if isinstance(value, dict) and set(value) == {"constant"}:
        constant = value["constant"]
        if isinstance(constant, str | int | float | bool):
            return Mask("constant", constant)
        findings.error((*path, "constant"), "a constant is a text, a number, true or false")
        return None
    hint = did_you_mean(value, _PLAIN) if isinstance(value, str) else ""
    findings.error(path, f"unknown mask{hint}", allowed)
    return None


def read_reveal(ours: Values, findings: Findings) -> tuple[str, ...]:
    """`reveal`: the roles that see what the mask hides. That they are roles of the contract is `check_masks`'."""
    if "reveal" not in ours:
        return ()
    value, path = ours["reveal"]
    if "mask" not in ours:
        findings.error(path, "reveal without a mask: nothing is hidden that could be revealed", ("mask",))
    roles: list[str] = []
    for index, item in enumerate(findings.sequence(value, path)):
        role = findings.text(item, (*path, index))
        if role is not None and role in roles:
            findings.error((*path, index), f'"{role}" stands here twice')
        elif role is not None:
            roles.append(role)
    if not roles and not findings.is_known(path):
        findings.error(path, "names no role; leave `reveal` out where nobody sees the clear value")
    return tuple(roles)


def read_embed(ours: Values, findings: Findings) -> bool:
    """`embed: never` keeps the column out of every embedding; that is what restricted and masked ones are anyway."""
    if "embed" in ours and ours["embed"][0] != "never":
        findings.error(ours["embed"][1], f"unknown embed {ours['embed'][0]!r}; leave it out, or write", ("never",))
    return "embed" not in ours


def check_mask(column: Column, ours: Values, roles: tuple[str, ...], findings: Findings) -> None:
    """Whether the mask can stand for the column, and whether the revealing roles are the contract's."""
    if column.mask is None:
        return
    if (reason := unfit(column.mask, column.physical_type)) is not None:
        findings.error(ours["mask"][1], reason)
    for index, role in enumerate(column.reveal):
        place = (*ours["reveal"][1], index)
        if not is_role(role):
            findings.error(place, f"{role!r} cannot be used as a role", ("not public, pg_… or tidegate_…",))
        elif role not in roles:
            findings.error(place, f"role {role} is not in the contract's roles{did_you_mean(role, roles)}", roles)
