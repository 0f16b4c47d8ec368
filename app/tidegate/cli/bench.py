"""Benchmarks."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from tidegate import console
from tidegate.cli.options import Json
from tidegate.cli.program import bench_app
from tidegate.errors import UsageError

if TYPE_CHECKING:
    from tidegate.bench.report import Report

BenchDsn = Annotated[
    str | None,
    typer.Option(
        "--dsn",
        envvar="TIDEGATE_BENCH_DSN",
        show_default=False,
        help="Your own server, on which databases are made and dropped; default: a temporary embedded Postgres.",
    ),
]
Seed = Annotated[int, typer.Option(envvar="TIDEGATE_BENCH_SEED", help="Makes the texts; the same ones for a number.")]


def _show(report: "Report", json_: bool) -> None:
    console.print_json(report.as_json()) if json_ else report.print(console.out)


@bench_app.command("freshness")
def bench_freshness(
    samples: Annotated[
        int, typer.Option(envvar="TIDEGATE_BENCH_SAMPLES", min=1, help="Updates that are counted.")
    ] = 500,
    rows: Annotated[int, typer.Option(envvar="TIDEGATE_BENCH_ROWS", min=1, help="Rows of the product.")] = 1000,
    warm_up: Annotated[
        int, typer.Option(envvar="TIDEGATE_BENCH_WARM_UP", min=0, help="Updates before that are not counted.")
    ] = 50,
    seed: Seed = 1,
    via: Annotated[
        Literal["embedded", "kafka"],
        typer.Option(envvar="TIDEGATE_BENCH_VIA", help="kafka: through Kafka and Kafka Connect of the settings."),
    ] = "embedded",
    dsn: BenchDsn = None,
    json_: Json = False,
) -> None:
    """Commit to found by a search: single-row updates, one after the other. Floor: Debezium + embedding + commit."""
    from tidegate.bench.freshness import Freshness

    report = Freshness(samples=samples, rows=rows, warm_up=warm_up, seed=seed, dsn=dsn, via=via).run()
    _show(report, json_)


@bench_app.command("backfill")
def bench_backfill(
    rows: Annotated[
        int, typer.Option(envvar="TIDEGATE_BENCH_ROWS", min=300, help="Rows that are there before.")
    ] = 5000,
    floor_rows: Annotated[
        int,
        typer.Option(
            envvar="TIDEGATE_BENCH_FLOOR_ROWS", min=2, help="Of these, as many at most go through the raw embedder."
        ),
    ] = 4000,
    seed: Seed = 1,
    dsn: BenchDsn = None,
    json_: Json = False,
) -> None:
    """Rows per second into the index, and the memory it takes. Floor: the raw embedder on the same texts."""
    from tidegate.bench.backfill import Backfill

    report = Backfill(rows=rows, floor_rows=floor_rows, seed=seed, dsn=dsn).run()
    _show(report, json_)


@bench_app.command("govern")
def bench_govern(
    contracts: Annotated[
        int, typer.Option(envvar="TIDEGATE_BENCH_CONTRACTS", min=1, help="Contracts that are planned, unchanged.")
    ] = 200,
    chunks: Annotated[
        int, typer.Option(envvar="TIDEGATE_BENCH_CHUNKS", min=1, help="Chunks of the table whose rule changes.")
    ] = 100_000,
    applies: Annotated[int, typer.Option(envvar="TIDEGATE_BENCH_APPLIES", min=1, help="Changes of the rule.")] = 20,
    dsn: BenchDsn = None,
    json_: Json = False,
) -> None:
    """A plan of many unchanged contracts, and how long an apply of a changed rule locks readers out."""
    from tidegate.bench.govern import Govern

    report = Govern(contracts=contracts, chunks=chunks, applies=applies, dsn=dsn).run()
    _show(report, json_)


@bench_app.command("throughput")
def bench_throughput(
    changes: Annotated[int, typer.Option(envvar="TIDEGATE_BENCH_CHANGES", min=1, help="Changes a part.")] = 20_000,
    rows: Annotated[int, typer.Option(envvar="TIDEGATE_BENCH_ROWS", min=1, help="Rows of the product.")] = 2000,
    workers: Annotated[
        list[int] | None,
        typer.Option(
            envvar="TIDEGATE_BENCH_WORKERS", help="Workers; a part each. Default 1, 2, 4.", show_default=False
        ),
    ] = None,
    seed: Seed = 1,
    dsn: BenchDsn = None,
    json_: Json = False,
) -> None:
    """Changes a second that need no embedding, through Kafka, by so many workers. Floor: a raw Kafka consumer."""
    from tidegate.bench.throughput import Throughput

    report = Throughput(changes=changes, rows=rows, workers=tuple(workers or (1, 2, 4)), seed=seed, dsn=dsn).run()
    _show(report, json_)


@bench_app.command("carry")
def bench_carry(
    rows: Annotated[
        int, typer.Option(envvar="TIDEGATE_BENCH_ROWS", min=1, help="Rows of the product; each changes once a round.")
    ] = 6000,
    rounds: Annotated[int, typer.Option(envvar="TIDEGATE_BENCH_ROUNDS", min=1, help="Rounds.")] = 4,
    seed: Seed = 1,
    dsn: BenchDsn = None,
    json_: Json = False,
) -> None:
    """Changes a second that need no embedding, through the embedded engine. Floor: a raw Debezium handler."""
    from tidegate.bench.carry import Carry

    report = Carry(rows=rows, rounds=rounds, seed=seed, dsn=dsn).run()
    _show(report, json_)


@bench_app.command("kills")
def bench_kills(
    kills: Annotated[int, typer.Option(envvar="TIDEGATE_BENCH_KILLS", min=1, help="How often it is killed.")] = 200,
    seed: Seed = 1,
    dsn: BenchDsn = None,
    json_: Json = False,
) -> None:
    """kill -9 of `tidegate run` at random moments of a mixed load: rows lost, left over, stale or mixed."""
    from tidegate.bench.kills import Kills

    report = Kills(kills=kills, seed=seed, dsn=dsn).run()
    _show(report, json_)


@bench_app.command("search")
def bench_search(
    texts: Annotated[
        int, typer.Option(envvar="TIDEGATE_BENCH_TEXTS", min=0, help="Rows of real texts; 0 leaves them out.")
    ] = 60_000,
    vectors: Annotated[
        int, typer.Option(envvar="TIDEGATE_BENCH_VECTORS", min=0, help="Rows of generated vectors; 0 leaves them out.")
    ] = 1_000_000,
    queries: Annotated[
        int, typer.Option(envvar="TIDEGATE_BENCH_QUERIES", min=1, help="Questions, of every principal each.")
    ] = 200,
    updates: Annotated[
        bool, typer.Option(envvar="TIDEGATE_BENCH_UPDATES", help="Measure again after a tenth of the rows changed.")
    ] = True,
    seed: Seed = 1,
    cache: Annotated[
        Path | None,
        typer.Option(
            envvar="TIDEGATE_BENCH_CACHE", show_default="~/.cache/tidegate/bench", help="Keeps the texts' vectors."
        ),
    ] = None,
    keep: Annotated[
        Path | None,
        typer.Option(
            envvar="TIDEGATE_BENCH_KEEP", show_default=False, help="A data folder that stays, for the next run to use."
        ),
    ] = None,
    dsn: BenchDsn = None,
    json_: Json = False,
) -> None:
    """Recall and time of searches by who may see much, little and next to nothing. Floor: HNSW without policies."""
    from tidegate.bench.search import Search

    if dsn is not None and keep is not None:
        raise UsageError("--keep is of the embedded server, --dsn names another; leave one out")
    report = Search(
        texts=texts, vectors=vectors, queries=queries, updates=updates, seed=seed, cache=cache, keep=keep, dsn=dsn
    ).run()
    _show(report, json_)


@bench_app.command("paths")
def bench_paths(
    rows: Annotated[
        int, typer.Option(envvar="TIDEGATE_BENCH_ROWS", min=20_000, help="Generated vectors in the product.")
    ] = 200_000,
    queries: Annotated[
        int, typer.Option(envvar="TIDEGATE_BENCH_QUERIES", min=1, help="Questions, of every caller each.")
    ] = 100,
    seed: Seed = 1,
    dsn: BenchDsn = None,
    json_: Json = False,
) -> None:
    """The ways to the nearest, each for callers of few and of many rows: where one overtakes the other."""
    from tidegate.bench.paths import Paths

    report = Paths(rows=rows, queries=queries, seed=seed, dsn=dsn).run()
    _show(report, json_)


@bench_app.command("hybrid")
def bench_hybrid(
    data: Annotated[
        Path | None,
        typer.Option(
            envvar="TIDEGATE_BENCH_DATA",
            show_default=False,
            help='A labelled set: docs.jsonl ({"id", "title", "text"}; ids are numbers), queries.jsonl '
            '({"id", "text"}), '
            "qrels.tsv (query_id, doc_id, relevance 1 best … 4, header). Default: 200 questions made here.",
        ),
    ] = None,
    seed: Seed = 1,
    dsn: BenchDsn = None,
    json_: Json = False,
) -> None:
    """nDCG@10 of hybrid search against vector alone and words alone, on a labelled set."""
    from tidegate.bench.hybrid import Hybrid

    report = Hybrid(data=data, seed=seed, dsn=dsn).run()
    _show(report, json_)


@bench_app.command("cost")
def bench_cost(
    changes: Annotated[
        int, typer.Option(envvar="TIDEGATE_BENCH_CHANGES", min=20, help="Changes of the history.")
    ] = 10_000,
    documents: Annotated[
        int, typer.Option(envvar="TIDEGATE_BENCH_DOCUMENTS", min=1, help="Long documents; ten times as many are short.")
    ] = 60,
    seed: Seed = 1,
    dsn: BenchDsn = None,
    json_: Json = False,
) -> None:
    """Texts that a history of changes takes to embed. Beside: embedding every changed document whole."""
    from tidegate.bench.cost import Cost

    report = Cost(changes=changes, documents=documents, seed=seed, dsn=dsn).run()
    _show(report, json_)


@bench_app.command("mixed")
def bench_mixed(
    rows: Annotated[
        int, typer.Option(envvar="TIDEGATE_BENCH_ROWS", min=2000, help="Rows of the table that is backfilled.")
    ] = 100_000,
    seconds: Annotated[
        float,
        typer.Option(envvar="TIDEGATE_BENCH_SECONDS", min=4, help="Of measurement; half of it with live changes."),
    ] = 240.0,
    per_s: Annotated[float, typer.Option(envvar="TIDEGATE_BENCH_PER_S", min=0.1, help="Live changes a second.")] = 20.0,
    settle_s: Annotated[
        float, typer.Option(envvar="TIDEGATE_BENCH_SETTLE_S", min=0, help="Of backfill before the measurement.")
    ] = 15.0,
    seed: Seed = 1,
    dsn: BenchDsn = None,
    json_: Json = False,
) -> None:
    """Freshness of live changes while a large table is backfilled. Beside: the backfill alone, before and after."""
    from tidegate.bench.mixed import Mixed

    report = Mixed(rows=rows, seconds=seconds, per_s=per_s, settle_s=settle_s, seed=seed, dsn=dsn).run()
    _show(report, json_)


@bench_app.command("model-switch")
def bench_model_switch(
    chunks: Annotated[
        int, typer.Option(envvar="TIDEGATE_BENCH_CHUNKS", min=100, help="Rows, of a chunk each.")
    ] = 50_000,
    changes_per_s: Annotated[
        float, typer.Option(envvar="TIDEGATE_BENCH_CHANGES_PER_S", min=0.1, help="Changes a second meanwhile.")
    ] = 20.0,
    seed: Seed = 1,
    dsn: BenchDsn = None,
    json_: Json = False,
) -> None:
    """A model change under load: searches that fail, are empty, short or under two models. Floor: before the change."""
    from tidegate.bench.model_switch import ModelSwitch

    report = ModelSwitch(chunks=chunks, changes_per_s=changes_per_s, seed=seed, dsn=dsn).run()
    _show(report, json_)
