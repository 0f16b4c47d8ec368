"""Attacks that are seen failing, and seen succeeding against a database that was weakened for it.

An attack is a test under `@attack(WEAKENING, …)`. It runs on the sound database, where it must end without a
`Breach`, and once on a database with each weakening, where it must end with one: an attack that cannot succeed
anywhere shows nothing. What it finds it says by `breach(…)` or `refused(…)`; plain assertions are for the set-up,
and fail the test in both databases.

    NO_FORCE = Weakening("owner_unbound", published=("ALTER TABLE rag_team.note NO FORCE ROW LEVEL SECURITY",))

    @attack(NO_FORCE)
    def test_the_owner_is_bound(published: World) -> None:
        breach(owner_sees(published) != set(), "the owner of the chunk table sees rows")

A weakening acts at three moments: `patches` (attributes of Python objects) and then `control` and `edits` before
anything is published, `published` after every `World.publish`.
"""

import functools
import inspect
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import pytest

from tidegate.database import Connection


class Breach(AssertionError):
    """An attack succeeded."""


@dataclass(frozen=True, slots=True)
class Edit:
    """A text of a function of the database, replaced: what somebody might have written instead.

    `function` is a regprocedure; `old` must be there, so that a weakening cannot become one of nothing.
    """

    function: str
    old: str
    new: str


@dataclass(frozen=True, slots=True)
class Weakening:
    """One way in which a database could be less than sound. Statements and edits run as the superuser."""

    name: str
    edits: tuple[Edit, ...] = ()
    control: tuple[str, ...] = ()
    published: tuple[str, ...] = ()
    patches: tuple[tuple[str, Any], ...] = ()

    def prepare(self, admin: Connection, monkeypatch: pytest.MonkeyPatch) -> None:
        """What acts before anything is published."""
        for target, value in self.patches:
            monkeypatch.setattr(target, value)
        for statement in self.control:
            admin.execute(statement)  # type: ignore[arg-type]
        for edit in self.edits:
            row = admin.execute("SELECT pg_get_functiondef(%s::regprocedure)", [edit.function]).fetchone()
            assert row is not None
            assert edit.old in row[0], f"{self.name}: {edit.function} has no text {edit.old!r}"
            admin.execute(row[0].replace(edit.old, edit.new))

    def after_publishing(self, admin: Connection) -> None:
        """What acts on a product."""
        for statement in self.published:
            admin.execute(statement)  # type: ignore[arg-type]


def attack(*weakenings: Weakening) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Runs the test on the sound database and, expecting a Breach, on one with each weakening."""

    def decorate(test: Callable[..., None]) -> Callable[..., None]:
        signature = inspect.signature(test)
        wanted = "weakness" in signature.parameters

        @functools.wraps(test)
        def run(*args: Any, weakness: Weakening | None, **fixtures: Any) -> None:
            given = {"weakness": weakness, **fixtures} if wanted else fixtures
            if weakness is None:
                test(*args, **given)
                return
            with pytest.raises(Breach):
                test(*args, **given)

        if not wanted:
            own = inspect.Parameter("weakness", inspect.Parameter.KEYWORD_ONLY)
            run.__signature__ = signature.replace(parameters=[*signature.parameters.values(), own])  # type: ignore[attr-defined]
        states = [pytest.param(None, id="sound"), *(pytest.param(w, id=f"weak:{w.name}") for w in weakenings)]
        return pytest.mark.parametrize("weakness", states, indirect=True)(run)

    return decorate


def breach(succeeded: bool, what: str) -> None:
    """Says that an attack succeeded, where it did."""
    if succeeded:
        raise Breach(what)


@contextmanager
def refused(*errors: type[Exception]) -> Iterator[None]:
    """The block ends with one of the errors; without, it is a breach."""
    try:
        yield
    except errors:
        return
    raise Breach(f"not refused: {', '.join(error.__name__ for error in errors)} expected")
