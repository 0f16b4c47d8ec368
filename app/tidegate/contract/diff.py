"""Two versions of a contract: every change, its class, and the least version that allows it."""

from collections.abc import Iterator
from dataclasses import dataclass, replace

from tidegate.contract.change import Change, ChangeClass, gravest
from tidegate.contract.column_diff import column_changes
from tidegate.contract.contract import Contract
from tidegate.contract.embedding import Embedding
from tidegate.contract.rule_diff import rule_changes
from tidegate.contract.version import Bump, Version


@dataclass(frozen=True, slots=True)
class Diff:
    """What lies between two versions of a product's contract; `changes` in the order of their gravity, gravest first.

    Properties: `kind` is the class of all of them, `bump` the least that the version must move, `required` the
    smallest release that has moved so far.
    """

    product: str
    old: Version
    new: Version
    changes: tuple[Change, ...]

    @property
    def kind(self) -> ChangeClass | None:
        return gravest(self.changes)

    @property
    def bump(self) -> Bump:
        return max((change.bump for change in self.changes), default=Bump.NONE)

    @property
    def required(self) -> Version:
        return self.old.after(self.bump)


_GRAVITY = list(ChangeClass)


def diff(old: Contract, new: Contract) -> Diff:
    """Compares two versions. Rules that come from standards are left out: they are no contract's."""
    changes = list(_changes(_by_itself(old), _by_itself(new)))
    if not changes and old.text != new.text:
        said = "texts change (descriptions, comments, layout), nothing that readers rely on"
        changes.append(Change(ChangeClass.SAFE, "text", said, Bump.PATCH))
    changes.sort(key=lambda change: (-_GRAVITY.index(change.kind), -change.bump, change.what))
    return Diff(new.product, Version.parse(old.version), Version.parse(new.version), tuple(changes))


def required_version(old: Contract, new: Contract) -> Version:
    """The smallest release that may follow `old` with the contents of `new`."""
    return diff(old, new).required


def check_bump(old: Contract, new: Contract) -> tuple[str, ...]:
    """Why `new` may not follow the published `old` under its version; nothing where it may.

    A published version stays what it is; a lower one is never published again, also no pre-release: an older text
    comes back under a version of its own.
    """
    if old.text == new.text:
        return ()
    found = diff(old, new)
    published, wanted = found.old, found.new
    if wanted == published:
        return (
            f"version {published} is published with another content, and a published version stays what it is; "
            f"this one is {_because(found)}: write version: {found.required}",
        )
    if wanted < published:
        return (
            f"version {wanted} is lower than {published}, which is published; to bring an older content back, give it "
            f"a version of its own: {found.required}",
        )
    if published.bump_to(wanted) < found.bump:
        return (f"version {wanted} is too small a step from {published}: {_because(found)}; write {found.required}",)
    return ()


def _because(found: Diff) -> str:
    """The gravest reasons for the bump, in one line."""
    reasons = [change.sentence for change in found.changes if change.bump is found.bump]
    more = f" (and {len(reasons) - 2} more)" if len(reasons) > 2 else ""
    return f"{found.bump.name}, since {'; '.join(reasons[:2])}{more}"


def _by_itself(contract: Contract) -> Contract:
    return replace(contract, rules=tuple(rule for rule in contract.rules if rule.origin == "contract"))


def _changes(old: Contract, new: Contract) -> Iterator[Change]:
    if old.source != new.source:
        same = (old.source.database, old.source.schema, old.source.table) == (
            new.source.database,
            new.source.schema,
            new.source.table,
        )
        if not same:
            yield Change(
                ChangeClass.BREAKING,
                "source",
                f"the rows come from {_place(new)}, came from {_place(old)}",
                Bump.MAJOR,
            )
        else:
            yield _text("server", "the server has another name")
    yield from column_changes(old, new)
    yield from _embedding(old, new)
    yield from rule_changes(old, new)
    if old.latency != new.latency:
        yield _text("latency", f"the promised latency is {_latency(new)}, was {_latency(old)}")
    if old.budget != new.budget:
        yield _text("budget", f"the budget is {_budget(new)}, was {_budget(old)}")
    if old.purpose != new.purpose:
        yield _text("description", "the description says otherwise what it is for")
    for name, what in (("status", "status"), ("team", "team"), ("owners", "owners"), ("roles", "declared roles")):
        before, after = getattr(old, name), getattr(new, name)
        if before != after:
            yield _text(what, f"{what}: {_show(after)}, was {_show(before)}")


def _embedding(old: Contract, new: Contract) -> Iterator[Change]:
    before, after = old.embedding, new.embedding
    if before.model != after.model:
        yield Change(
            ChangeClass.BREAKING,
            "model",
            f"the model is {after.model}, was {before.model}: vectors of readers no longer fit",
            Bump.MAJOR,
        )
    if (before.columns, before.template) != (after.columns, after.template):
        yield Change(
            ChangeClass.REEMBED,
            "embedding",
            f"what is embedded is {_show(after.document_columns)} ({after.template or 'one after the other'}), "
            f"was {_show(before.document_columns)} ({before.template or 'one after the other'})",
            Bump.MINOR,
        )
    if (was := _chunk(before)) != (now := _chunk(after)):
        yield Change(ChangeClass.REEMBED, "chunk", f"chunks have {now}, had {was}", Bump.MINOR)


def _chunk(embedding: Embedding) -> str:
    sizes = f"{embedding.chunk_tokens} tokens and {embedding.chunk_overlap} of overlap"
    if embedding.chunk_min is not None:
        sizes += f", at least {embedding.chunk_min}"
    return sizes if embedding.chunk_target is None else f"{sizes}, {embedding.chunk_target} on average"


def _text(what: str, sentence: str) -> Change:
    return Change(ChangeClass.SAFE, what, sentence, Bump.PATCH)


def _place(contract: Contract) -> str:
    database = f"{contract.source.database}." if contract.source.database else ""
    return f"{database}{contract.source.schema}.{contract.source.table}"


def _budget(contract: Contract) -> str:
    budget = contract.budget
    return f"{budget.tokens:,} tokens a day, then {budget.policy}" if budget else "none"


def _latency(contract: Contract) -> str:
    return f"p{contract.latency.percentile:g} {contract.latency.ms:g} ms" if contract.latency else "none"


def _show(value: object) -> str:
    return ", ".join(map(str, value)) or "none" if isinstance(value, tuple) else str(value)
