"""Masks: what they make of a value, and what a contract may say of them."""

import hashlib
import hmac
import json
from typing import Any

import pytest
import yaml
from tests.conftest import SIMPLE_CONTRACT

from tidegate.contract.contract import Contract
from tidegate.contract.finding import ContractErrors
from tidegate.contract.mask import Mask, masked
from tidegate.contract.odcs import parse_contract


@pytest.mark.parametrize(
    ("mask", "value", "expected"),
    [
        (Mask("null"), "x", None),
        (Mask("constant", 0), "x", "0"),
        (Mask("constant", True), None, "true"),
        (Mask("partial_email"), "carol@example.com", "c***@example.com"),
        (Mask("partial_email"), "a@b", "***@b"),
        (Mask("partial_email"), '"a@b"@c', '"***@c'),
        (Mask("partial_email"), "no address", "***"),
        (Mask("partial_email"), "@", "***"),
        (Mask("last4"), "DE89370400440532013000", "***3000"),
        (Mask("last4"), "12345678", "***5678"),
        (Mask("last4"), "1234567", "***"),
        (Mask("last4"), None, None),
        (Mask("hash"), None, None),
        (Mask("hash"), "é", hmac.new(b"k", "é".encode(), hashlib.sha256).hexdigest()),
    ],
)
def test_what_a_mask_makes_of_a_value(mask: Mask, value: str | None, expected: str | None) -> None:
    assert masked(mask, value, b"k") == expected


def test_a_hash_needs_the_key_and_ignores_padding() -> None:
    with pytest.raises(ValueError, match="key"):
        masked(Mask("hash"), "x", None)
    assert masked(Mask("hash"), "x  ", b"k", "char(3)") == masked(Mask("hash"), "x", b"k", "char(3)")
    assert masked(Mask("hash"), "x  ", b"k") != masked(Mask("hash"), "x", b"k")


def with_secret(type_: str = "text", tags: tuple[str, ...] = (), **properties: Any) -> bytes:
    """The simple contract with these properties of tidegate's on its restricted column."""
    document = yaml.safe_load(SIMPLE_CONTRACT)
    column = document["schema"][0]["properties"][-1]
    assert column["name"] == "secret"
    column |= {"physicalType": type_, "tags": list(tags)}
    column["customProperties"] = [
        {"property": name, "vendor": "tidegate", "value": value} for name, value in properties.items()
    ]
    return yaml.safe_dump(document).encode()


@pytest.mark.parametrize("mask", [None, "null", "hash", "last4", "partial_email", {"constant": "x"}])
def test_a_masked_column_is_carried_and_kept_in_the_spec(mask: Any) -> None:
    contract = parse_contract(with_secret("varchar(9)", mask=mask, reveal=["note_reader"]), "c.yaml")
    column = contract.columns[-1]
    assert column.reveal == ("note_reader",)
    assert column.carried_type == ("text" if mask in ("hash", "last4", "partial_email") else "varchar(9)")
    assert contract.carried_columns[-1] is column
    assert contract.revealed_columns == (column,)
    assert column in contract.read_columns
    spec = json.loads(json.dumps(contract.to_spec()))
    assert spec == contract.to_spec()
    assert Contract.from_spec(spec) == contract


def test_a_mask_that_needs_nothing_of_the_value_reads_nothing() -> None:
    contract = parse_contract(with_secret("int", mask={"constant": 1}), "c.yaml")
    assert contract.columns[-1] in contract.carried_columns
    assert contract.columns[-1] not in contract.read_columns


@pytest.mark.parametrize(
    ("type_", "properties", "message"),
    [
        ("text", {"mask": "hsh"}, 'unknown mask; did you mean "hash"?'),
        ("int", {"mask": "hash"}, "hash masks texts, the column is int"),
        ("text[]", {"mask": "last4"}, "last4 masks texts, the column is text[]"),
        ("int", {"mask": {"constant": "x"}}, "the constant 'x' does not fit int: it must be a whole number"),
        ("smallint", {"mask": {"constant": 40000}}, "from -32768 to 32767"),
        ("int", {"mask": {"constant": True}}, "must be a whole number"),
        ("varchar(3)", {"mask": {"constant": "four"}}, "a text of at most 3 characters"),
        ("numeric(4,2)", {"mask": {"constant": 100}}, "at most 2 digits before the point"),
        ("boolean", {"mask": {"constant": "no"}}, "must be true or false"),
        ("uuid", {"mask": {"constant": "x"}}, "must be a uuid"),
        ("date", {"mask": {"constant": "2026-02-30"}}, "must be a day"),
        ("timestamptz", {"mask": {"constant": "soon"}}, "must be a moment"),
        ("jsonb", {"mask": {"constant": "{}"}}, "must be null, since a constant of this type cannot be checked"),
        ("text", {"mask": "hash", "reveal": ["note_raeder"]}, 'not in the contract\'s roles; did you mean "note_reader"?'),
        ("text", {"mask": "hash", "reveal": ["public"]}, "'public' cannot be used as a role"),
        ("text", {"mask": "hash", "reveal": []}, "names no role"),
        ("text", {"mask": "hash", "reveal": ["note_reader"] * 2}, "stands here twice"),
        ("text", {"reveal": ["note_reader"]}, "reveal without a mask"),
        ("text", {"embed": "always"}, "unknown embed 'always'"),
    ],
)  # fmt: skip
def test_what_is_refused(type_: str, properties: dict[str, Any], message: str) -> None:
    with pytest.raises(ContractErrors) as refusal:
        parse_contract(with_secret(type_, **properties), "c.yaml")
    assert message in str(refusal.value)
    assert "customProperties" in str(refusal.value)


def test_a_masked_column_is_no_filter_rule_or_text_to_embed() -> None:
    with pytest.raises(ContractErrors, match="is masked, only its mask leaves the source, but is used as filter"):
        parse_contract(with_secret(mask="hash", tags=("filter",)), "c.yaml")
    embedded = with_secret(mask="hash").replace(b"row.region in user.regions", b"row.secret in user.regions")
    with pytest.raises(ContractErrors, match="is masked, only its mask leaves the source, but is used as rule"):
        parse_contract(embedded, "c.yaml")
    for properties, reason in (({"mask": "hash"}, "restricted"), ({}, "restricted")):
        document = yaml.safe_load(with_secret(**properties))
        document["schema"][0]["customProperties"][0]["value"]["columns"] = ["title", "secret"]
        with pytest.raises(ContractErrors, match=f"column secret is {reason} and must not be embedded"):
            parse_contract(yaml.safe_dump(document).encode(), "c.yaml")
    document = yaml.safe_load(with_secret(embed="never"))
    document["schema"][0]["properties"][-1].pop("classification")
    document["schema"][0]["customProperties"][0]["value"]["columns"] = ["title", "secret"]
    with pytest.raises(ContractErrors, match="column secret is marked `embed: never` and must not be embedded"):
        parse_contract(yaml.safe_dump(document).encode(), "c.yaml")
