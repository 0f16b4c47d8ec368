"""What is wrong with a contract: where, what, and what is allowed there."""

from collections.abc import Iterable
from dataclasses import dataclass
from difflib import get_close_matches

from tidegate.errors import TidegateError


@dataclass(frozen=True, slots=True)
class ContractError:
    """One fault. `line` counts from 1; `path` is like `schema[0].properties[2].physicalType`."""

    file: str
    line: int
    path: str
    message: str
    allowed: tuple[str, ...] = ()

    def __str__(self) -> str:
        place = f"{self.file}:{self.line}: {self.path + ': ' if self.path else ''}"
        allowed = f" (allowed: {', '.join(self.allowed)})" if self.allowed else ""
        return f"{place}{self.message}{allowed}"


class ContractErrors(TidegateError):
    """The contracts do not pass; nothing was done. `errors` has all faults of all files."""

    def __init__(self, errors: Iterable[ContractError]):
        self.errors = tuple(errors)
        super().__init__("\n".join(map(str, self.errors)))


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """`; did you mean "x"?`, or nothing where no known name is near."""
    near = get_close_matches(name, list(known), n=1)
    return f'; did you mean "{near[0]}"?' if near else ""
