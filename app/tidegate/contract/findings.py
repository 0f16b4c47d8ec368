"""The faults of one file, as they are found."""

from collections.abc import Callable, Iterable, Mapping
from typing import Any

from tidegate.contract.finding import ContractError, did_you_mean
from tidegate.contract.page import Page, Path, show


class Findings:
    """Collects errors and warnings of the file `name`; knows where in it each path is.

    `load` reads the page when it is first needed: most files have no fault.
    """

    def __init__(self, name: str, load: Callable[[], Page | None] | None = None):
        self.name = name
        self._page: Page | None = None
        self._load = load
        self.errors: list[ContractError] = []
        self.notes: list[ContractError] = []
        self._places: set[Path] = set()

    @property
    def page(self) -> Page | None:
        """The file's contents with their lines, as far as they could be read."""
        if self._page is None and self._load is not None:
            self._page, self._load = self._load(), None
        return self._page

    @page.setter
    def page(self, page: Page | None) -> None:
        self._page = page

    def at_line(self, path: Path, line: int, message: str) -> None:
        """An error at a known line."""
        self._places.add(path)
        self.errors.append(ContractError(self.name, line, show(path), message))

    def error(self, path: Path, message: str, allowed: Iterable[str] = ()) -> None:
        """An error at `path`."""
        self._places.add(path)
        line = self.page.line(path) if self.page else 1
        self.errors.append(ContractError(self.name, line, show(path), message, tuple(allowed)))

    def warn(self, path: Path, message: str) -> None:
        """Something legal that is probably not meant."""
        line = self.page.line(path) if self.page else 1
        self.notes.append(ContractError(self.name, line, show(path), message))

    @property
    def warnings(self) -> tuple[str, ...]:
        """What was warned of, as text."""
        return tuple(map(str, self.notes))

    def is_known(self, path: Path) -> bool:
        """Whether an error at `path` or below it is already on the list."""
        return any(place[: len(path)] == path for place in self._places)

    # Readers: the value if it is what it should be, else None and an error (once).

    def mapping(self, value: Any, path: Path, keys: Iterable[str] | None = None) -> Mapping[str, Any] | None:
        """A mapping; with `keys`, one that has no others."""
        if not isinstance(value, dict):
            self._wrong(path, value, "a mapping")
            return None
        known = tuple(keys) if keys is not None else None
        for key in value:
            if known is not None and key not in known:
                self.error((*path, key), f'unknown key "{key}"{did_you_mean(key, known)}', known)
        return value

    def sequence(self, value: Any, path: Path) -> list[Any]:
        """A list; empty where it is none."""
        if isinstance(value, list):
            return value
        self._wrong(path, value, "a list")
        return []

    def text(self, value: Any, path: Path) -> str | None:
        """A non-empty string."""
        if isinstance(value, str) and value.strip():
            return value
        self._wrong(path, value, "a text")
        return None

    def integer(self, value: Any, path: Path, low: int, high: int) -> int | None:
        """A whole number from `low` to `high`."""
        if isinstance(value, int) and not isinstance(value, bool) and low <= value <= high:
            return value
        self._wrong(path, value, f"a whole number from {low} to {high}")
        return None

    def number(self, value: Any, path: Path, above: float, up_to: float) -> float | None:
        """A number greater than `above`, at most `up_to`."""
        if isinstance(value, int | float) and not isinstance(value, bool) and above < value <= up_to:
            return float(value)
        self._wrong(path, value, f"a number greater than {above:g}, at most {up_to:g}")
        return None

    def _wrong(self, path: Path, value: Any, wanted: str) -> None:
        if self.is_known(path):
            return
        if value is None:
            self.error(path, f"missing; it must be {wanted}")
        else:
            shown = repr(value) if isinstance(value, str | int | float) else f"a {type(value).__name__}"
            self.error(path, f"{shown[:80]} is not {wanted}")
