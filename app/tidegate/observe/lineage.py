"""OpenLineage events: one run per apply and one per backfill, to a file or an HTTP endpoint.

What comes from what is read from the view `tidegate.lineage`. Lineage is told, never asked: a transport that fails
is logged, and nothing else fails for it. Naming of data sets: OpenLineage "Naming conventions", PostgreSQL.
"""

import logging
import uuid
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Literal
from urllib.parse import urlsplit

from tidegate.contract.contract import Contract
from tidegate.database import Connection
from tidegate.errors import TidegateError, UsageError
from tidegate.govern.plan import Plan
from tidegate.sql import queries

if TYPE_CHECKING:
    from openlineage.client.event_v2 import RunEvent

log = logging.getLogger(__name__)

PRODUCER = "urn:tidegate"
JOBS = "tidegate"
TIMEOUT_S = 3.0
_DEFAULT_ENDPOINT = "api/v1/lineage"

State = Literal["START", "COMPLETE", "FAIL"]
Kind = Literal["apply", "backfill"]


@dataclass(frozen=True, slots=True)
class Trace:
    """A row of `tidegate.lineage` of one product. `model` only where text is embedded."""

    source_column: str
    chunk_schema: str
    chunk_table: str
    chunk_column: str
    transformation: str
    model: str | None


class Lineage:
    """Tells where the columns of chunk tables come from. Without a target it tells nobody, and imports nothing.

    Args:
        target: `file:PATH`, one event a line, or `http(s)://…`; a URL without path gets `api/v1/lineage`.

    Raises:
        UsageError: the target is neither, or the extra `lineage` is not installed.
    """

    def __init__(self, target: str | None):
        self._transport = None if target is None else _transport(target)

    @contextmanager
    def applying(self, connection: Connection, plan: Plan) -> Iterator[None]:
        """START before, COMPLETE after; FAIL with its message where what is done inside raises. A plan that does
        nothing is no run."""
        if self._transport is None or not plan.steps:
            yield
            return
        contract, dimension = plan.contract, plan.dimension
        run = str(uuid.uuid4())
        self.tell(connection, "apply", "START", run, contract, dimension)
        try:
            yield
        except BaseException as error:
            self.tell(connection, "apply", "FAIL", run, contract, dimension, error=error)
            raise
        self.tell(connection, "apply", "COMPLETE", run, contract, dimension)

    def tell(
        self,
        connection: Connection,
        kind: Kind,
        state: State,
        run: str,
        contract: Contract,
        dimension: int,
        *,
        error: BaseException | None = None,
    ) -> None:
        """One event, built and sent."""
        self.send(self.event(connection, kind, state, run, contract, dimension, error=error))

    def event(
        self,
        connection: Connection,
        kind: Kind,
        state: State,
        run: str,
        contract: Contract,
        dimension: int,
        *,
        error: BaseException | None = None,
    ) -> "RunEvent | None":
        """An event to be sent; None where nobody is told, or it cannot be built."""
        if self._transport is None:
            return None
        try:
            traces = _traces(connection, contract.product) if state == "COMPLETE" else []
            info = connection.info
            host = "localhost" if (info.host or "/").startswith("/") else info.host
            place = (f"postgres://{host}:{info.port}", info.dbname)
            return _event(kind, state, run, contract, dimension, place, traces, error)
        except Exception as problem:
            log.warning("lineage not told", extra={"product": contract.product, "reason": str(problem)})
            return None

    def send(self, event: "RunEvent | None") -> None:
        """Sends an event; a failure is logged."""
        if self._transport is None or event is None:
            return
        try:
            self._transport.emit(event)
        except Exception as problem:
            log.warning("lineage not told", extra={"job": event.job.name, "reason": str(problem)})


def _traces(connection: Connection, product: str) -> list[Trace]:
    return [Trace(*row) for row in connection.execute(queries("lineage_events")["traces"], {"product": product})]


def _transport(target: str) -> Any:
    scheme, _, rest = target.partition(":")
    url = urlsplit(target)
    if not (scheme == "file" and rest) and not (scheme in ("http", "https") and url.netloc):
        raise UsageError(f'TIDEGATE_OPENLINEAGE is "{target}"; it is file:PATH or http(s)://host:port')
    try:
        from openlineage.client.transport.file import FileConfig, FileTransport
        from openlineage.client.transport.http import HttpConfig, HttpTransport
    except ImportError:
        raise UsageError('TIDEGATE_OPENLINEAGE needs the extra "lineage": pip install "tidegate[lineage]"') from None
    if scheme == "file":
        return FileTransport(FileConfig(log_file_path=rest, append=True))
    endpoint = url.path.strip("/") or _DEFAULT_ENDPOINT
    config = HttpConfig(
        url=f"{scheme}://{url.netloc}",
        endpoint=f"{endpoint}?{url.query}" if url.query else endpoint,
        timeout=TIMEOUT_S,
        # Once more at most: an apply waits for it.
        retry={"total": 1, "connect": 1, "read": 0, "status": 1, "backoff_factor": 0.1, "allowed_methods": ["POST"]},
    )
    return HttpTransport(config)


def _event(
    kind: Kind,
    state: State,
    run: str,
    contract: Contract,
    dimension: int,
    place: tuple[str, str],
    traces: Sequence[Trace],
    error: BaseException | None,
) -> "RunEvent":
    from openlineage.client import event_v2, facet_v2

    facet_v2.set_producer(PRODUCER)
    run_facets: dict[str, Any] = {}
    if error is not None:
        # The message of an error that Postgres raised may quote values of rows.
        message = str(error) if isinstance(error, TidegateError) else type(error).__name__
        run_facets["errorMessage"] = facet_v2.error_message_run.ErrorMessageRunFacet(message, "PYTHON")
    job_type = facet_v2.job_type_job.JobTypeJobFacet("BATCH", "TIDEGATE", kind.upper())
    namespace, database = place
    source = f"{database}.{contract.source.schema}.{contract.source.table}"
    target = f"{database}.{contract.chunk_schema}.{contract.table}"
    types = {**contract.column_types, "content": "text", "embedding": f"vector({dimension})"}
    needed = {column.name for column in (*contract.carried_columns, *contract.document_columns)}
    read = [column for column in contract.columns if column.name in needed]
    facets = _facets(contract)
    fields = facet_v2.schema_dataset.SchemaDatasetFacetFields
    inputs = facet_v2.schema_dataset.SchemaDatasetFacet(
        [fields(name=c.name, type=c.physical_type, description=c.description) for c in read]
    )
    written: dict[str, Any] = {}
    if traces:
        own = dict.fromkeys(trace.chunk_column for trace in traces if trace.chunk_table == contract.table)
        written["schema"] = facet_v2.schema_dataset.SchemaDatasetFacet(
            [fields(name=name, type=types[name]) for name in own]
        )
        written["columnLineage"] = _column_lineage(contract, traces, namespace, source)
    return event_v2.RunEvent(
        eventType=event_v2.RunState(state),
        eventTime=datetime.now(UTC).isoformat(),
        run=event_v2.Run(run, facets=run_facets),
        job=event_v2.Job(JOBS, f"{kind}.{contract.product}", facets={"jobType": job_type}),
        producer=PRODUCER,
        inputs=[event_v2.InputDataset(namespace, source, facets={"schema": inputs, **facets})],
        outputs=[event_v2.OutputDataset(namespace, target, facets={**facets, **written})],
    )


def _facets(contract: Contract) -> dict[str, Any]:
    from openlineage.client import facet_v2

    owner = facet_v2.ownership_dataset.Owner
    owners = [owner(f"user:{name}", "OWNER") for name in contract.owners]
    owners += [owner(f"team:{contract.team}", "TEAM")] if contract.team else []
    return {
        "ownership": facet_v2.ownership_dataset.OwnershipDatasetFacet(owners),
        "version": facet_v2.dataset_version_dataset.DatasetVersionDatasetFacet(contract.version),
    }


def _column_lineage(contract: Contract, traces: Sequence[Trace], namespace: str, source: str) -> Any:
    from openlineage.client.facet_v2 import column_lineage_dataset as column_lineage

    fields: dict[str, Any] = {}
    for trace in traces:
        if trace.chunk_table != contract.table:
            continue  # the side table of a clear value is another data set
        masked = trace.transformation.startswith("masked")
        kept = trace.transformation in ("key", "carried")
        description = trace.transformation if trace.model is None else f"{trace.transformation} by {trace.model}"
        transformation = column_lineage.Transformation(
            "DIRECT", "IDENTITY" if kept else "TRANSFORMATION", description, masking=masked
        )
        field = column_lineage.InputField(namespace, source, trace.source_column, [transformation])
        fields.setdefault(trace.chunk_column, column_lineage.Fields([])).inputFields.append(field)
    return column_lineage.ColumnLineageDatasetFacet(fields)
