"""The README's contract is one that tidegate takes."""

import re
from pathlib import Path

from tidegate.contract.odcs import parse_contract

README = Path(__file__).parents[3] / "README.md"


def test_the_contract_of_the_readme_is_valid() -> None:
    found = re.search(r"```yaml\n(.*?)```", README.read_text(encoding="utf-8"), re.DOTALL)
    assert found is not None
    contract = parse_contract(found[1].encode(), "README.md")
    assert contract.product == "support.ticket"
    assert [rule.id for rule in contract.rules] == ["tenant", "region", "hold"]
