"""Plans as files: what an administrator reviewed is what runs, or nothing."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tidegate.capture.stream import HOME
from tidegate.contract.file import require_files
from tidegate.contract.odcs import parse_contract
from tidegate.contract.standards_file import parse_standards
from tidegate.database import Connection
from tidegate.errors import TidegateError
from tidegate.govern.estimate import Estimate
from tidegate.govern.matrix import Matrix
from tidegate.govern.plan_set import PlanSet, Statement, Wanted, statements

FORMAT = 1
Json = dict[str, Any]


class NoPlan(TidegateError):
    """The file is no plan that can be applied."""


@dataclass(frozen=True, slots=True)
class PlanFile:
    """A plan as read: what it wants, and per product the statements that were reviewed."""

    wanted: Wanted
    statements: dict[str, list[Statement]]


def as_json(
    connection: Connection,
    plans: PlanSet,
    matrices: Mapping[str, Matrix],
    estimates: Mapping[str, Estimate] | None = None,
) -> Json:
    """The plan as a file has it, and as `plan --json` prints it."""
    ran, estimates = statements(connection, plans), estimates or {}
    return {
        "tidegate_plan": FORMAT,
        "database": connection.info.dbname,
        "rebuild": plans.wanted.rebuild,
        "standards": None if plans.standards is None else plans.standards.text,
        "contracts": [{"path": contract.path, "text": contract.text} for contract in plans.wanted.contracts],
        "standards_statements": [_statement(*each) for each in ran.get("standards", ())],
        "products": [
            {
                "product": plan.contract.product,
                "version": plan.contract.version,
                "published_version": plan.published.version if plan.published else None,
                "class": plan.change_class,
                "changes": [
                    {"class": change.kind, "what": change.what, "sentence": change.sentence} for change in plan.changes
                ],
                "summary": list(plan.summary),
                "drops": list(plan.drops),
                "statements": [_statement(*each) for each in ran[plan.contract.product]],
                "estimate": estimates[plan.contract.product].as_json() if plan.contract.product in estimates else None,
                "matrix": matrices[plan.contract.product].as_json() if plan.contract.product in matrices else None,
            }
            for plan in plans.changing
        ],
    }


def read_plan_file(path: Path, sources: Mapping[str, str]) -> PlanFile:
    """Reads a plan. `sources`: as in Wanted; a plan names them without their DSNs.

    Raises:
        UnknownName: there is no such file.
        NoPlan: it is no plan of tidegate, or of another format.
        ContractErrors: a contract in it does not pass.
    """
    require_files([path])
    try:
        document = json.loads(path.read_text(encoding="utf-8"))
        if document["tidegate_plan"] != FORMAT:
            raise NoPlan(f"{path}: plan format {document['tidegate_plan']} is not this release's; plan again")
        wanted = Wanted(
            tuple(parse_contract(each["text"].encode(), each["path"]) for each in document["contracts"]),
            None
            if document["standards"] is None
            else parse_standards(document["standards"].encode(), f"{path}: standards"),
            bool(document["rebuild"]),
            sources,
        )
        planned = {each["product"]: _read(each["statements"]) for each in document["products"]}
        if document["standards_statements"]:
            planned["standards"] = _read(document["standards_statements"])
    except OSError as error:
        raise NoPlan(f"{path}: cannot be read: {error.strerror}") from None
    except (ValueError, KeyError, TypeError, AttributeError):
        raise NoPlan(f'{path} is no plan; "tidegate plan contracts/ -o plan.json" writes one') from None
    return PlanFile(wanted, planned)


def _statement(text: str, as_owner: bool, source: str) -> Json:
    return {"sql": text, "as_owner": as_owner} | ({"source": source} if source else {})


def _read(given: list[Json]) -> list[Statement]:
    return [(each["sql"], each["as_owner"], each.get("source", HOME)) for each in given]
