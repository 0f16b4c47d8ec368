"""Two versions of a contract's rules: who may see more, who less.

A row is shown where one `allow` holds and every guard does: the `require` rules, and the `deny` rules for those in
their `to`. So nobody sees more if each new allow lies, role by role, inside an old one, and each old guard follows
from the new ones. What cannot be proved is WIDENS.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from tidegate.contract.change import Change, ChangeClass
from tidegate.contract.contract import Contract
from tidegate.contract.expression import And, Expression, Member, Not, Or
from tidegate.contract.implication import Condition, implies
from tidegate.contract.membership import Membership
from tidegate.contract.rule import Rule
from tidegate.contract.version import Bump

_EVERYONE = None


def rule_changes(old: Contract, new: Contract) -> Iterator[Change]:
    """The changes of the rules, each with its class."""
    changed = _changed_memberships(old.memberships, new.memberships)
    before, after = _Rules(old.rules), _Rules(_estranged(rule, changed) for rule in new.rules)
    for name, rule in before.by_id.items():
        if name not in after.by_id:
            yield _removed(rule, after)
    texts = {rule.id: rule for rule in new.rules}
    for name, rule in after.by_id.items():
        was = before.by_id.get(name)
        if was is None:
            yield _added(rule, before)
        elif (was.effect, was.to, was.text) != (rule.effect, rule.to, texts[name].text) or rule.when != texts[
            name
        ].when:
            yield _changed(was, rule, before, after)
    yield from _membership_changes(old.memberships, new.memberships)


@dataclass(frozen=True, slots=True)
class _Guard:
    """`condition` must be true for callers in `roles`; None: for all."""

    rule: str
    roles: frozenset[str] | None
    condition: Expression


class _Rules:
    def __init__(self, rules: Iterable[Rule]):
        self.by_id = {rule.id: rule for rule in rules}
        self.allows = [rule for rule in self.by_id.values() if rule.effect == "allow"]
        self.guards = [_guard(rule) for rule in self.by_id.values() if rule.effect != "allow"]

    def allow(self, rule: Rule) -> bool:
        """Whether all that the allow rule shows is shown by these rules too (guards aside)."""
        return all(any(role in ours.to and implies(rule.when, ours.when) for ours in self.allows) for role in rule.to)

    def guard(self, guard: _Guard) -> bool:
        """Whether these rules keep from everyone what the guard keeps."""
        if guard.roles is _EVERYONE:
            return implies(self._conditions(None), guard.condition)
        return all(implies(self._conditions(role), guard.condition) for role in guard.roles)

    def _conditions(self, role: str | None) -> Condition:
        """All that holds of rows shown to one in `role`; None: to anybody."""
        terms = tuple(
            guard.condition
            for guard in self.guards
            if guard.roles is _EVERYONE or (role is not None and role in guard.roles)
        )
        return None if not terms else terms[0] if len(terms) == 1 else And(terms)


def _guard(rule: Rule) -> _Guard:
    assert rule.when is not None, "require and deny have a condition"
    if rule.effect == "require":
        return _Guard(rule.id, _EVERYONE, rule.when)
    return _Guard(rule.id, frozenset(rule.to) if rule.to else _EVERYONE, Not(rule.when))


def _holds(rules: _Rules, rule: Rule) -> bool:
    """Whether `rules` show no more than they would with `rule` (a guard), or show all that it shows (an allow)."""
    return rules.allow(rule) if rule.effect == "allow" else rules.guard(_guard(rule))


def _removed(rule: Rule, after: _Rules) -> Change:
    what, name = f"rule {rule.id}", f"{rule.effect} rule {rule.id}"
    if _holds(after, rule):
        return Change(ChangeClass.SAFE, what, f"{name} goes; other rules say the same", Bump.PATCH)
    if rule.effect == "allow":
        return Change(ChangeClass.NARROWS, what, f"{name} goes: {_roles(rule.to)} lose what it showed", Bump.MINOR)
    return Change(ChangeClass.WIDENS, what, f"{name} goes: what it kept back may be shown", Bump.MAJOR)


def _added(rule: Rule, before: _Rules) -> Change:
    what, name = f"rule {rule.id}", f"{rule.effect} rule {rule.id}"
    if _holds(before, rule):
        return Change(ChangeClass.SAFE, what, f"{name} is new; other rules said the same", Bump.PATCH)
    if rule.effect == "allow":
        return Change(ChangeClass.WIDENS, what, f"{name} is new: it may show {_roles(rule.to)} more rows", Bump.MAJOR)
    return Change(ChangeClass.NARROWS, what, f"{name} is new: it keeps rows back", Bump.MINOR)


def _changed(was: Rule, rule: Rule, before: _Rules, after: _Rules) -> Change:
    allow_side = rule.effect != "allow" or _holds(before, rule)
    guard_side = was.effect == "allow" or _holds(after, was)
    what = f"rule {rule.id}"
    said = _difference(was, rule)
    if not (allow_side and guard_side):
        return Change(ChangeClass.WIDENS, what, f"{said}: it may show more rows", Bump.MAJOR)
    loses = was.effect == "allow" and not _holds(after, was)
    guards = rule.effect != "allow" and not _holds(before, rule)
    if loses or guards:
        return Change(ChangeClass.NARROWS, what, f"{said}: it shows fewer rows, and no others", Bump.MINOR)
    return Change(ChangeClass.SAFE, what, f"{said}, which says the same", Bump.PATCH)


def _difference(was: Rule, rule: Rule) -> str:
    parts = []
    if was.effect != rule.effect:
        parts.append(f"was {was.effect} and becomes {rule.effect}")
    if was.to != rule.to:
        parts.append(f"is for {_roles(rule.to)}, was for {_roles(was.to)}")
    if was.text != rule.text:
        parts.append(f"says {rule.text or 'always'!r}, said {was.text or 'always'!r}")
    return f"{rule.effect} rule {rule.id} " + (" and ".join(parts) or "asks a membership that changes")


def _roles(roles: Sequence[str]) -> str:
    return ", ".join(roles) if roles else "everyone"


def _changed_memberships(old: Sequence[Membership], new: Sequence[Membership]) -> frozenset[str]:
    before = {membership.name: membership for membership in old}
    return frozenset(one.name for one in new if one.name in before and before[one.name] != one)


def _membership_changes(old: Sequence[Membership], new: Sequence[Membership]) -> Iterator[Change]:
    before: Mapping[str, Membership] = {membership.name: membership for membership in old}
    after: Mapping[str, Membership] = {membership.name: membership for membership in new}
    for name in sorted(before.keys() | after.keys()):
        what = f"membership {name}"
        if name not in after:
            yield Change(ChangeClass.SAFE, what, f"membership {name} goes", Bump.PATCH)
        elif name not in before:
            yield Change(ChangeClass.SAFE, what, f"membership {name} is new", Bump.PATCH)
        elif before[name] != after[name]:
            yield Change(ChangeClass.WIDENS, what, f"membership {name} goes by another table or column", Bump.MAJOR)


def _estranged(rule: Rule, memberships: frozenset[str]) -> Rule:
    """The rule with a name of its own for each of these memberships: it is not what it was in the old rules."""
    if rule.when is None or not memberships:
        return rule
    return Rule(rule.id, rule.effect, rule.to, _renamed(rule.when, memberships), rule.text, rule.origin)


def _renamed(expression: Expression, memberships: frozenset[str]) -> Expression:
    match expression:
        case Or(terms):
            return Or(tuple(_renamed(term, memberships) for term in terms))
        case And(terms):
            return And(tuple(_renamed(term, memberships) for term in terms))
        case Not(term):
            return Not(_renamed(term, memberships))
        case Member(name, column) if name in memberships:
            return Member(f"{name}, changed", column)
        case _:
            return expression
