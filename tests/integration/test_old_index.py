"""A line on an index that is clearly older than promised, for who searches it; nothing in normal use."""

import re

import pytest
from tests.conftest import SIMPLE_CONTRACT, SIMPLE_TABLE, Tide
from tests.integration.surface import Opened

from tidegate.index.embedding.local_model import MODEL
from tidegate.query.async_client import AsyncClient
from tidegate.query.client import Client


def aged(tide: Tide, age: str, source: str = "") -> None:
    """No `tidegate run` is at work; the index is as of so long ago, and its rows come from there."""
    tide.admin.execute("UPDATE tidegate.product SET source_server = %s", [source])
    tide.admin.execute("DELETE FROM tidegate.watermark")
    tide.admin.execute(
        "INSERT INTO tidegate.watermark (lane, source, lsn, as_of) "
        "VALUES (%s, %s, pg_current_wal_lsn(), clock_timestamp() - %s::interval)",
        [MODEL, source, age],
    )


@pytest.mark.parametrize("kind", [Client, AsyncClient])
def test_it_says_how_old_and_why(tide: Tide, kind: type[Client] | type[AsyncClient]) -> None:
    tide.admin.execute(SIMPLE_TABLE)
    tide.apply(SIMPLE_CONTRACT)
    with Opened(kind, tide.dsn, tide.settings.model_copy(update={"heartbeat_ms": 1000})) as tg:
        assert tg.why_old() is None  # never indexed: why_nothing says so
        aged(tide, "0 s")
        assert tg.why_old() is None
        aged(tide, "2 hours")
        said = tg.why_old(["team.note"])
        assert said == tg.why_old()
        assert re.fullmatch(
            r"product team.note: the index is as of 20\d\d-\d\d-\d\d \d\d:\d\d:\d\dZ, 2 h 0 min ago: no worker is "
            r'running; start "tidegate run" \(or see "tidegate status"\)',
            said,
        )
        assert tg.why_old([]) is None
        # Beside the SLA of 200 ms: 10 s and the heartbeat's interval where nobody reads, a minute where somebody may.
        aged(tide, "12 s")
        assert tg.why_old() is not None
        aged(tide, "12 s", "crm")
        assert tg.why_old() is None
        aged(tide, "2 hours", "crm")
        assert tg.why_old().endswith('2 h 0 min ago: "tidegate status" says why')
        tide.admin.execute("UPDATE tidegate.product SET latency_ms = 7200000")
        assert tg.why_old() is None
        tide.admin.execute("UPDATE tidegate.product SET state = 'suspended', latency_ms = 200")
        assert tg.why_old() == 'not searched, since suspended: team.note; "tidegate status" says why'
