"""Rows that wait for the live loop, and which of them it takes."""

from collections.abc import Sequence

from tidegate.capture.change_event import Operation
from tidegate.index.item import Item
from tidegate.index.turns import in_turns

Key = tuple[int, str | None]
SHARED_BATCH = 128


def take(queue: dict[Key, Item], most: int) -> list[Item]:
    """Takes the next batch out of the queue.

    Deletes come first: they need no model, and what is deleted must not be found because others wait for theirs. The
    rest by turns; where several products wait, batches are small, so that no turn is long.
    """
    if len(queue) <= min(most, SHARED_BATCH):
        items = list(queue.values())
        queue.clear()
        return items
    deletes = [key for key, item in queue.items() if item.event.operation is Operation.DELETE][:most]
    taken = [queue.pop(key) for key in deletes]
    if len({product_id for product_id, _ in queue}) > 1:
        most = min(most, SHARED_BATCH)
    left = most - len(taken)
    if left > 0:
        rows = list(queue.items())
        turns = in_turns(rows, lambda row: row[1].product) if len({key[0] for key, _ in rows}) > 1 else rows
        taken += [queue.pop(key) for key, _ in turns[:left]]
    return taken


def put_back(queue: dict[Key, Item], items: Sequence[Item]) -> dict[Key, Item]:
    """The queue with the items in front that were taken and not begun; a newer event of a row stands for it."""
    front: dict[Key, Item] = {}
    for item in items:
        key = (item.product.product_id, item.key)
        other = queue.pop(key, None)
        if other is None:
            front[key] = item
            continue
        newest, older = (item, other) if item.event.position > other.event.position else (other, item)
        newest.numbers += older.numbers
        front[key] = newest
    return {**front, **queue}


def others_wait(queue: dict[Key, Item], items: Sequence[Item]) -> bool:
    """Whether rows wait that should not wait for all of these: another product's, or deletes."""
    own = {item.product.product_id for item in items}
    return any(
        product_id not in own or item.event.operation is Operation.DELETE for (product_id, _), item in queue.items()
    )
