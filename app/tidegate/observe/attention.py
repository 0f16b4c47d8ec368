"""What of a status needs somebody: for monitoring, which goes by an exit code and a line a thing."""

from collections.abc import Iterator, Mapping, Sequence
from datetime import timedelta
from typing import TYPE_CHECKING

from tidegate.capture.stream import HOME
from tidegate.count import counted
from tidegate.observe.fleet import FleetStatus
from tidegate.observe.status import CaptureStatus, ProductStatus
from tidegate.query.duration import spoken
from tidegate.query.recency import CLEARLY

if TYPE_CHECKING:
    from tidegate.capture.connect import ConnectorState


def attention(
    capture: CaptureStatus,
    products: Sequence[ProductStatus],
    fleet: FleetStatus,
    connectors: "Mapping[str, ConnectorState | str | None]",
    idle_s: float,
) -> list[str]:
    """A sentence for everything that does not mend itself; none where all is well.

    A backfill that goes on is none of it, nor are workers that are gone while others have their partitions.

    Args:
        idle_s: how old `as_of` gets where nothing happens: the heartbeat's interval.
    """
    found = list(_capture(capture, products, fleet))
    for product in products:
        found += _product(product, idle_s)
    found += _fleet(fleet, any(product.source != HOME for product in products))
    for name, state in connectors.items():
        if isinstance(state, str):
            found.append(f"{name}: {state}")
        elif state is None:
            found.append(f'connector {name} is not there; "tidegate connect apply" makes it')
        elif not state.running:
            found.append(f"connector {name} does not run" + (f": {state.reason}" if state.reason else ""))
    return found


def _capture(capture: CaptureStatus, products: Sequence[ProductStatus], fleet: FleetStatus) -> Iterator[str]:
    if not any(product.source == HOME for product in products):
        return
    kafka = any(source.source == HOME and source.transport == "kafka" for source in fleet.sources)
    way_out = 'is the connector running ("tidegate connect status")?' if kafka else 'start "tidegate run"'
    if not capture.exists:
        yield f"slot {capture.slot} is not there, nothing reads changes; {way_out}"
    elif not capture.active:
        yield f"slot {capture.slot} is not active, nothing reads changes; {way_out}"


def _product(product: ProductStatus, idle_s: float) -> Iterator[str]:
    if product.state == "suspended":
        yield f"product {product.product} is suspended: {product.state_reason}"
    elif product.age_s is not None and product.age_s > (product.sla_ms or 0) / 1000 + idle_s + CLEARLY.total_seconds():
        yield f"the index of product {product.product} is as of {spoken(timedelta(seconds=product.age_s))} ago"
    if product.within_sla is False:
        share = f" ({product.share_within_sla:.1%} within)" if product.share_within_sla is not None else ""
        promised = f"p{product.sla_percentile:g} {product.sla_ms} ms"
        yield f"product {product.product} misses its SLA, {promised}, in the last hour{share}"
    if product.dead_letters:
        letters = counted(product.dead_letters, "dead letter")
        yield f'product {product.product} has {letters}; "tidegate dead-letters list" says why'


def _fleet(fleet: FleetStatus, remote: bool) -> Iterator[str]:
    alive = {worker.worker for worker in fleet.alive}
    # Rows of another database come through Kafka alone, also where nothing ever ran.
    if (remote or any(source.transport == "kafka" for source in fleet.sources)) and not alive:
        yield 'no worker is running; start "tidegate worker"'
    for worker in fleet.alive:
        if worker.trouble:
            yield f"worker {worker.worker}: {worker.trouble}"
    for source in fleet.sources:
        if source.trouble:
            yield f"source {source.source or 'of the index'}: {source.trouble}"
    lost = [part for part in fleet.partitions if alive and part.worker not in alive]
    if lost:
        numbers = ", ".join(f"{part.source} {part.partition}".strip() for part in lost)
        yield f"nobody has {counted(len(lost), 'partition')}: {numbers}"
