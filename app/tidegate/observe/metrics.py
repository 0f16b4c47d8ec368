"""Figures for Prometheus: lag, freshness, dead letters. Read from the database when they are asked for."""

import logging
from collections.abc import Iterator
from typing import Any

import psycopg

from tidegate.database import connect
from tidegate.errors import TidegateError
from tidegate.observe.fleet import fleet_status
from tidegate.observe.status import product_status

log = logging.getLogger(__name__)


class Figures:
    """A collector: every scrape reads the control tables once, whichever worker it asks."""

    def __init__(self, dsn: str):
        self._dsn = dsn

    def collect(self) -> Iterator[Any]:
        """The metric families. Only `tidegate_up` where the database is away."""
        from prometheus_client.core import GaugeMetricFamily

        up = GaugeMetricFamily("tidegate_up", "1 while the database of the index answers.")
        try:
            with connect(self._dsn, application="tidegate metrics") as connection:
                products, fleet = product_status(connection), fleet_status(connection)
        except (TidegateError, psycopg.Error) as error:
            log.warning("no metrics", extra={"reason": str(error)})
            up.add_metric([], 0)
            yield up
            return
        up.add_metric([], 1)
        yield up

        def family(name: str, text: str, labels: list[str], rows: list[tuple[list[str], float | None]]) -> Any:
            made = GaugeMetricFamily(f"tidegate_{name}", text, labels=labels)
            for values, figure in rows:
                if figure is not None:
                    made.add_metric(values, float(figure))
            return made

        partition = ["source", "partition", "worker"]
        parts = [(part, [part.source, str(part.partition), part.worker]) for part in fleet.partitions]
        yield family(
            "partition_lag", "Events in Kafka that are not indexed yet.", partition, [(v, p.lag) for p, v in parts]
        )
        yield family(
            "worker_in_trouble", "1 while nothing comes to the worker.", ["worker"],
            [([w.worker], float(w.trouble is not None)) for w in fleet.alive],
        )  # fmt: skip
        yield family(
            "worker_bulk_rows", "Backfilled rows that wait.", ["worker"],
            [([w.worker], w.bulk_waiting) for w in fleet.alive],
        )  # fmt: skip
        product = ["product"]
        yield family(
            "as_of_seconds", "Unix time up to which everything committed is indexed.", product,
            [([p.product], p.as_of.timestamp() if p.as_of else None) for p in products],
        )  # fmt: skip
        for name, text in (("rows", "Rows indexed."), ("chunks", "Chunks."), ("dead_letters", "Parked rows.")):
            yield family(name, text, product, [([p.product], getattr(p, name)) for p in products])
        quantiles = (("0.5", "p50_ms"), ("0.95", "p95_ms"), ("0.99", "p99_ms"))
        yield family(
            "freshness_ms", "Commit to searchable over the last hour.", ["product", "quantile"],
            [([p.product, quantile], getattr(p, field)) for p in products for quantile, field in quantiles],
        )  # fmt: skip


def serve(dsn: str, host: str, port: int) -> int:
    """Serves the figures on http://host:port/metrics from a thread of its own; returns the port."""
    from prometheus_client import CollectorRegistry, start_http_server

    registry = CollectorRegistry(auto_describe=False)
    registry.register(Figures(dsn))
    server, _ = start_http_server(port, addr=host, registry=registry)
    log.info("metrics", extra={"host": host, "port": server.server_port})
    return int(server.server_port)
