"""Which submissions of a team an administrator looks at before they are applied."""

from tidegate.contract.change import ChangeClass
from tidegate.contract.contract import Contract
from tidegate.govern.plan import Plan


def why_review(review: str, published: Contract | None, plan: Plan) -> str | None:
    """Why an administrator must look at the submission; None where the domain's setting asks for none.

    `always`: every change. `widens`: what may show somebody more than before, or publishes a product; when in
    doubt, it does.
    """
    if not plan.steps:
        return None
    if review == "always":
        return "every change of the domain is reviewed"
    if review != "widens":
        return None
    if published is None:
        return "the product is published for the first time"
    if plan.widens:
        return "access widens: " + "; ".join(each.sentence for each in plan.changes if each.kind is ChangeClass.WIDENS)
    changed = [name for name, old, new in _access(published, plan.contract) if old != new]
    return f"who sees what may change ({', '.join(changed)})" if changed else None


def _access(old: Contract, new: Contract) -> tuple[tuple[str, object, object], ...]:
    return (
        ("rules", old.rules, new.rules),
        ("memberships", old.memberships, new.memberships),
        ("source", old.source, new.source),
        ("what is embedded", old.embedding.document_columns, new.embedding.document_columns),
        ("masks", _guards(old), _guards(new)),
    )


def _guards(contract: Contract) -> dict[str, tuple[object, object]]:
    return {column.name: (column.classification, column.mask) for column in contract.columns}
