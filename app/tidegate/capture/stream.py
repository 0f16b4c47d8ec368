"""The streams that changes come in: one from the embedded engine, one a partition from Kafka."""

from typing import NamedTuple

HOME = ""
"""The name of the source database that is the index's own. Others have the name of their contract's server."""


class Stream(NamedTuple):
    """Changes of one source in commit order: all of them, or those of the rows whose keys fall into a partition.

    A partition is a stream like the whole: what comes in it later was committed later. So each has a watermark
    of its own, moved by what comes in it, and a product's is the oldest of its source's partitions. No order
    between partitions is needed, and none is there: a producer that retries writes to one partition what belongs
    before that which it wrote to another long ago.

    An idle partition would hold all back. So heartbeats (and the marks of `tidegate.wait_for`) go to every
    partition: rows of tidegate.heartbeat and prefixes of messages, as many as there are partitions, with keys
    that fall into one each (capture/partitioning.py).
    """

    source: str
    partition: int


EMBEDDED = Stream(HOME, 0)
