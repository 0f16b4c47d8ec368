import shutil
import signal
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tidegate.local import postmaster


@pytest.fixture
def place() -> Iterator[Path]:
    """An empty folder that the server's account can enter, as it cannot pytest's own. Servers in it end."""
    folder = Path(tempfile.mkdtemp(prefix="tidegate-test-", dir="/tmp"))
    folder.chmod(0o755)
    yield folder
    for data in folder.iterdir():
        for pid in set(postmaster.find(data / "cluster")):
            assert postmaster.end(pid, signal.SIGQUIT, 15)
    shutil.rmtree(folder)
