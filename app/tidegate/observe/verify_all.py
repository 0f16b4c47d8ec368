"""Every product of a database compared with its source, one after the other, with a progress bar."""

from collections.abc import Iterator
from contextlib import ExitStack, closing

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from tidegate.capture.stream import HOME
from tidegate.database import connect, register_vectors
from tidegate.errors import UsageError
from tidegate.govern.control_schema import require_current
from tidegate.index.embedding.registry import Embedders
from tidegate.index.indexer import Indexer
from tidegate.index.product import Product, indexes
from tidegate.index.source_reader import SourceReader
from tidegate.observe.verify import Verification, Verifier
from tidegate.settings import Settings

ROLE, APPLICATION = "tidegate_worker", "tidegate verify"


def verify_all(
    dsn: str,
    settings: Settings,
    product: str | None,
    *,
    repair: bool,
    anew: bool,
    rows_per_s: float,
    patience_s: float,
    console: Console,
) -> Iterator[Verification]:
    """Compares the products, or the one, in the order of their names, each with all its indexes; see Verifier.

    Args:
        console: shows a progress bar, if it is a terminal.
    """
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with ExitStack() as opened:
        with connect(dsn) as login:
            require_current(login)
        connection = opened.enter_context(connect(dsn, role=ROLE, application=APPLICATION))
        register_vectors(connection)
        chosen = [
            one
            for one in indexes(connection, Embedders(settings))
            if product is None or product in (one.contract.product, one.name)
        ]
        sources = {HOME: opened.enter_context(connect(dsn, role=ROLE, application=APPLICATION))}
        progress = opened.enter_context(Progress(*columns, console=console, disable=not console.is_terminal))
        for one in sorted(chosen, key=lambda one: one.name):
            if one.source not in sources:
                if one.source not in settings.sources:
                    raise UsageError(
                        f'the rows of {one.contract.product} are on the server "{one.source}"; '
                        "name its DSN in TIDEGATE_SOURCES"
                    )
                there = connect(settings.sources[one.source], role=ROLE, application=APPLICATION)
                sources[one.source] = opened.enter_context(there)
            task = progress.add_task(one.name, total=None)

            def look(compared: int, total: int, task: object = task) -> None:
                progress.update(task, completed=compared, total=total)  # type: ignore[arg-type]

            verifier = Verifier(
                connection,
                sources[one.source],
                one,
                rows_per_s=rows_per_s,
                patience_s=patience_s,
                indexer=opened.enter_context(closing(_indexer(one, settings))) if repair else None,
                look=look,
            )
            yield verifier.run(anew=anew)


def _indexer(product: Product, settings: Settings) -> Indexer:
    product.embedder.prepare()
    return Indexer(
        product.embedder,
        bulk=True,
        max_document_chars=settings.max_document_chars,
        attempts=1,
        reader=SourceReader(settings.sources),
        searchable=lambda *_: None,
    )
