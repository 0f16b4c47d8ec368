"""What the commands print: data to stdout, talk to stderr."""

import dataclasses
import json
import logging
import sys
from collections import Counter
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from decimal import Decimal
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.table import Table

from tidegate.count import counted

# Every command prints, few of them what these modules bring along.
if TYPE_CHECKING:
    from tidegate.capture.connect import ConnectorState
    from tidegate.govern.model_status import ModelStatus
    from tidegate.observe.cost import ProductCost
    from tidegate.observe.dead_letters import DeadLetter
    from tidegate.observe.fleet import FleetStatus
    from tidegate.observe.status import CaptureStatus, ProductStatus
    from tidegate.observe.verify import Verification
    from tidegate.query.answer import Answer
    from tidegate.query.hit import Hit

# Where no terminal says how wide it is, lines are as long as they need to be.
_WIDTH = None if sys.stdout.isatty() else 250
out = Console(highlight=False, soft_wrap=True, width=_WIDTH)
err = Console(stderr=True, highlight=False, soft_wrap=True)

_RECORD_FIELDS = set(logging.LogRecord("", 0, "", 0, "", (), None).__dict__) | {
    "message",
    "asctime",
    "taskName",
}


class FactFormatter(logging.Formatter):
    """`12:00:01 INFO tidegate.index.worker backfill done product=support.ticket`."""

    def format(self, record: logging.LogRecord) -> str:
        """The line, with the record's extra fields as name=value."""
        facts = [f"{name}={value}" for name, value in record.__dict__.items() if name not in _RECORD_FIELDS]
        return " ".join((super().format(record), *facts))


def set_up_logging(level: str) -> None:
    """Logs to stderr; Alembic and litellm only from warnings up."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(FactFormatter("%(asctime)s %(levelname)s %(name)s %(message)s", "%H:%M:%S"))
    logging.basicConfig(level=logging.WARNING, handlers=[handler], force=True)
    logging.getLogger("tidegate").setLevel(level.upper())
    # Its event loop complains of itself wherever the machine is busy.
    logging.getLogger("kafka.net.selector").setLevel(logging.ERROR)


def print_json(data: Any) -> None:
    """One JSON value; dataclasses as objects, moments in ISO."""
    print(json.dumps(data, default=_jsonable, ensure_ascii=False, indent=2))


def _jsonable(value: Any) -> Any:
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return dataclasses.asdict(value)
    if isinstance(value, datetime):
        return value.isoformat()
    if isinstance(value, Decimal):
        return float(value)
    return str(value)


def hit_json(hit: "Hit") -> dict[str, Any]:
    """A hit with its score."""
    return {**dataclasses.asdict(hit), "score": round(hit.score, 6)}


def print_hits(hits: "Sequence[Hit]") -> None:
    """A line a hit and its text below."""
    for hit in hits:
        unchecked = "" if hit.consistency == "strict" else f", {hit.consistency}"
        out.print(
            f"{hit.score:.3f}  [bold]{escape(hit.citation)}[/bold]  committed {moment(hit.committed_at)}{unchecked}"
        )
        out.print(f"       {escape(shorten(hit.content))}")


def print_answer(answer: "Answer") -> None:
    """The text, its citations, and how fresh it is."""
    out.print(escape(answer.text))
    print_support(answer)


def answer_json(answer: "Answer") -> dict[str, Any]:
    """An answer with its hits as `hit_json` gives them."""
    citations = [hit_json(hit) for hit in answer.citations]
    return {name: getattr(answer, name) for name in ("text", "as_of", "model", "not_found")} | {"citations": citations}


def print_support(answer: "Answer") -> None:
    """What a text rests on, what was not found, and how fresh it is."""
    for number, hit in enumerate(answer.citations, 1):
        out.print(f"  {escape(f'[{number}]')} {escape(hit.citation)}: {escape(shorten(hit.content, 100))}")
    if answer.citations:
        for part in answer.not_found:
            out.print(f"  not found: {escape(shorten(part))}")
    out.print(f"  as of {moment(answer.as_of)}" + (f", by {answer.model}" if answer.model else ", extracted"))


def print_status(capture: "CaptureStatus", products: "Sequence[ProductStatus]") -> None:
    """The slot, and a row a product."""
    if not capture.exists:
        out.print(f'slot {capture.slot}: not there yet; "tidegate run" makes it')
    else:
        state = "active" if capture.active else 'not active; is "tidegate run" running?'
        out.print(f"slot {capture.slot}: {state}, {(capture.behind_bytes or 0) / 1024:,.0f} KiB not confirmed")
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0))
    for name in (
        "product",
        "version",
        "state",
        "rows",
        "chunks",
        "p50",
        "p95",
        "p99",
        "SLA",
        "within",
        "as of",
        "dead",
    ):
        table.add_column(name, justify="right" if name in ("rows", "chunks", "p50", "p95", "p99", "dead") else "left")
    for p in products:
        sla = "-" if p.sla_ms is None else f"p{p.sla_percentile:g} {p.sla_ms} ms"
        within = (
            "-" if p.within_sla is None else f"{'yes' if p.within_sla else '[red]no[/red]'} ({p.share_within_sla:.1%})"
        )
        table.add_row(
            p.product, p.contract_version, p.state, f"{p.rows:,}", f"{p.chunks:,}", _ms(p.p50_ms), _ms(p.p95_ms),
            _ms(p.p99_ms), sla, within, moment(p.as_of), str(p.dead_letters),
        )  # fmt: skip
    out.print(table)
    for p in products:
        if p.state_reason:
            out.print(f"{p.product} is {p.state}: {escape(p.state_reason)}")


def print_fleet(fleet: "FleetStatus") -> None:
    """A line a worker, a line a partition; nothing where none ever ran."""
    for worker in fleet.workers:
        if worker.alive and worker.trouble:
            out.print(escape(f"worker {worker.worker}: {worker.trouble}, since {moment(worker.trouble_since)}"))
        elif worker.alive:
            out.print(escape(f"worker {worker.worker}: works, {counted(worker.bulk_waiting, 'row')} of backfills wait"))
        else:
            out.print(escape(f"worker {worker.worker}: not seen since {moment(worker.seen_at)}"))
    for source in fleet.sources:
        if source.source:
            trouble = f"; {source.trouble}, since {moment(source.trouble_since)}" if source.trouble else ""
            out.print(escape(f"source {source.source}: as of {moment(source.as_of)}{trouble}"))
    for part in fleet.partitions:
        name = f"{part.source} partition {part.partition}".strip()
        lag = "unknown" if part.lag is None else str(part.lag)
        out.print(escape(f"{name}: lag {lag}, {part.worker}, at {moment(part.updated_at)}"))


def connector_line(name: str, state: "ConnectorState | None") -> str:
    """How a connector is, in a line."""
    if state is None:
        return f'connector {name}: not there; "tidegate connect apply" makes it'
    tasks = ", ".join(task.lower() for task in state.tasks) or "none"
    reason = f": {state.reason}" if state.reason else ""
    return f"connector {name}: {state.state.lower()}, task {tasks}{reason}"


def model_lines(status: "ModelStatus") -> Iterator[str]:
    """The indexes of a product, for people."""
    yield status.product
    for index, part in ((status.searched, "searched"), (status.second, "beside")):
        if index is None:
            continue
        facts = [
            f"{index.dimension} dimensions",
            index.state,
            counted(index.rows, "row"),
            counted(index.chunks, "chunk"),
        ]
        if index.parked:
            facts.append(f"{index.parked:,} parked")
        if index is status.second:
            how = "from the chunks of the first" if index.built_from == "chunks" else "from the source"
            facts.append(f"built {how}" if index.state == "live" else f"is built {how}")
        if index is status.second and status.lag_s is not None:
            facts.append(f"{status.lag_s:.1f} s behind the other")
        if index.served_until is not None:
            facts.append(f"searched until {moment(index.served_until)}")
        if not index.wanted:
            facts.append("not the contract's model")
        yield f"  {part:8}  {index.model}: {', '.join(facts)}"
        if index.state_reason:
            yield f"            {index.state_reason}"


def letter_json(letter: "DeadLetter") -> dict[str, Any]:
    """A parked row with its key as an object."""
    return {**dataclasses.asdict(letter), "key": json.loads(letter.key)}


def print_dead_letters(letters: "Sequence[DeadLetter]") -> None:
    """A line a parked row."""
    if not letters:
        err.print("no dead letters")
    for letter in letters:
        again = f", tried again {moment(letter.retry_at)}" if letter.retry_at else ""
        out.print(
            f"{letter.id}  {letter.product}  {escape(letter.key)}  {letter.kind}: {escape(letter.reason)} "
            f"({counted(letter.attempts, 'attempt')}, last {moment(letter.last_at)}{again})"
        )


def print_verification(verified: "Verification") -> None:
    """A line a wrong row, then one that counts them."""
    if verified.skipped is not None:
        out.print(escape(f"{verified.product} was not compared: {verified.skipped}"))
        return
    for finding in verified.findings:
        columns = f" ({', '.join(finding.columns)})" if finding.columns else ""
        repaired = ", repaired" if finding.repaired else ""
        key = json.dumps(finding.key, ensure_ascii=False)
        out.print(escape(f"{verified.product}  {key}  {finding.problem}{columns}{repaired}"))
    kinds = Counter(finding.problem for finding in verified.findings)
    found = ", ".join(f"{count:,} {problem}" for problem, count in kinds.items()) or "nothing wrong"
    left = sum(not finding.repaired for finding in verified.findings)
    parts = [f"{verified.product}: {counted(verified.compared, 'row')} of source and index compared", found]
    if verified.findings:
        parts.append("all repaired" if not left else f"{left:,} not repaired; --repair does it")
    if verified.parked:
        parts.append(f'{verified.parked:,} parked, see "tidegate dead-letters list"')
    if verified.moving:
        parts.append(f"{verified.moving:,} changed all the time and were not compared")
    out.print(escape("; ".join(parts)))


def fields(value: Any) -> dict[str, Any]:
    """A dataclass as an object, in its fields' order."""
    return {each.name: getattr(value, each.name) for each in dataclasses.fields(value)}


def moment(value: datetime | None) -> str:
    """A time in UTC, to the millisecond; `-` where there is none."""
    return "-" if value is None else f"{value.astimezone(UTC):%Y-%m-%d %H:%M:%S}.{value.microsecond // 1000:03d}Z"


def shorten(text: str, most: int = 160) -> str:
    """The text in one line."""
    line = " ".join(text.split())
    return line if len(line) <= most else line[: most - 1] + "…"


def escape(text: str) -> str:
    """Text that rich prints as it is."""
    return text.replace("[", r"\[")


def _ms(value: float | None) -> str:
    return "-" if value is None else f"{value:.0f} ms"


def print_costs(costs: "Sequence[ProductCost]") -> None:
    """A row a product and model."""
    if not costs:
        out.print("nothing was counted yet")
        return
    names = (
        "product",
        "model",
        "changes",
        "text same",
        "reused",
        "cached",
        "embedded",
        "instead of",
        "share",
        "tokens",
        "USD",
    )
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0))
    for name in names:
        table.add_column(name, justify="left" if name in ("product", "model") else "right")
    for one in costs:
        usd = "-" if one.usd is None or one.naive_usd is None else f"{one.usd:,.4f} of {one.naive_usd:,.4f}"
        table.add_row(
            one.product, one.model, f"{one.changes + one.backfilled:,}", f"{one.unchanged:,}", f"{one.chunks_reused:,}",
            f"{one.cache_hits:,}", f"{one.texts:,}", f"{one.naive_texts:,}",
            "-" if one.share_embedded is None else f"{one.share_embedded:.1%}", f"{one.tokens:,}", usd,
        )  # fmt: skip
    out.print(table)
    out.print("changes with backfilled rows; instead of: texts that embedding every change whole would have sent")
