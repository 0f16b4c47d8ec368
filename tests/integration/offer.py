"""Contracts for tables of the tests' own making."""

import json
from collections.abc import Mapping, Sequence
from typing import Any


def offer(
    product: str,
    columns: Mapping[str, str],
    *,
    key: Sequence[str] = ("id",),
    carried: Sequence[str] = (),
    embed: Sequence[str] = (),
    template: str | None = None,
    model: str = "local/all-minilm-l6-v2",
    tokens: int = 200,
    version: str = "1.0.0",
) -> str:
    """A contract (JSON, which is YAML) for the table `product` (`domain.table`), readable by all of `team_reader`.

    Args:
        columns: name → type, as in CREATE TABLE.
        carried: columns that stand beside each chunk.
        embed, template: one of them.
    """
    domain, _, table = product.partition(".")
    properties = []
    for name, type_ in columns.items():
        item: dict[str, Any] = {"id": name, "name": name, "logicalType": "string", "physicalType": type_}
        if name in key:
            item |= {"primaryKey": True, "primaryKeyPosition": list(key).index(name) + 1, "required": True}
        if name in carried:
            item["tags"] = ["filter"]
        properties.append(item)
    source: dict[str, Any] = {"columns": list(embed)} if template is None else {"template": template}
    embedding = {**source, "chunk": {"tokens": tokens}, "model": model}
    rules = {"grammar": 1, "rules": [{"id": "all", "effect": "allow", "to": ["team_reader"]}]}
    return json.dumps(
        {
            "apiVersion": "v3.2.0",
            "kind": "DataContract",
            "id": f"3b0d7a52-9a3e-4f5c-8e0b-{abs(hash(product)) % 10**12:012d}",
            "name": product,
            "version": version,
            "status": "active",
            "domain": domain,
            "dataProduct": product,
            "description": {"purpose": "A table of a test."},
            "servers": [{"server": "source", "type": "postgres", "host": "localhost", "port": 5432, "database": "test", "schema": domain}],
            "team": {"name": domain, "members": [{"username": "owner@example.com", "role": "owner"}]},
            "roles": [{"role": "team_reader", "access": "read"}],
            "schema": [
                {
                    "id": table,
                    "name": table,
                    "physicalName": table,
                    "physicalType": "table",
                    "logicalType": "object",
                    "properties": properties,
                    "customProperties": [
                        {"property": "embedding", "vendor": "tidegate", "value": embedding},
                        {"property": "rowAccess", "vendor": "tidegate", "value": rules},
                    ],
                }
            ],
            "slaProperties": [
                {"id": "freshness", "property": "latency", "value": 200, "unit": "ms", "driver": "operational",
                 "customProperties": [{"property": "percentile", "vendor": "tidegate", "value": 99}]}
            ],
        }
    )  # fmt: skip
