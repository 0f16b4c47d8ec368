"""One difference between two versions of a contract, and what it means to those who rely on it."""

from dataclasses import dataclass
from enum import StrEnum

from tidegate.contract.version import Bump


class ChangeClass(StrEnum):
    """What a change does to readers, the gravest last."""

    SAFE = "SAFE"
    """Nobody sees more, fewer or other rows."""
    NARROWS = "NARROWS"
    """Somebody may see less; nobody sees more."""
    WIDENS = "WIDENS"
    """Somebody may see more."""
    REEMBED = "REEMBED"
    """Texts are embedded anew; searches find other things."""
    BREAKING = "BREAKING"
    """What was relied on is gone or has another shape."""


@dataclass(frozen=True, slots=True)
class Change:
    """`what` is like `rule region`, `column price` or `model`; `sentence` says it to people; `bump` is the least
    that the version must move for it."""

    kind: ChangeClass
    what: str
    sentence: str
    bump: Bump

    def as_json(self) -> dict[str, str]:
        """As `tidegate.contract_version.changes` keeps it."""
        return {"class": str(self.kind), "what": self.what, "sentence": self.sentence, "bump": self.bump.name}


_ORDER = list(ChangeClass)


def gravest(changes: tuple[Change, ...]) -> ChangeClass | None:
    """The class of them all; None where there are none."""
    return max((change.kind for change in changes), key=_ORDER.index, default=None)
