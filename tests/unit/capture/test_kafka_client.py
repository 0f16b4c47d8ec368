"""What has to be mended of kafka-python."""

from dataclasses import dataclass, field
from types import SimpleNamespace

import pytest

from tidegate.capture.kafka_client import mend_join


@dataclass
class Coordinator:
    """As kafka-python's looks from outside."""

    rejoining: bool
    needed: bool
    asked: list[bool] = field(default_factory=list)

    def need_rejoin(self) -> bool:
        return self.needed

    def request_rejoin(self) -> None:
        self.asked.append(True)


@pytest.mark.parametrize(("rejoining", "needed", "mended"), [(True, False, 1), (True, True, 0), (False, False, 0)])
def test_a_join_under_way_is_not_forgotten(rejoining: bool, needed: bool, mended: int) -> None:
    coordinator = Coordinator(rejoining, needed)
    mend_join(SimpleNamespace(_coordinator=coordinator))
    assert len(coordinator.asked) == mended
