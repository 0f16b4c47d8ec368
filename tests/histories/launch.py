"""The real `tidegate`, but for its model: `python -m tests.histories.launch FAULTS run`, or `worker`.

The model's vectors cost nothing, and it is slow or away as the file FAULTS says (JSON: away, delay_s); a file beside
it says that it was asked. What failed is tried again soon, and the house is kept often, so that histories are short.
"""

import json
import os
import sys
from collections.abc import Sequence
from pathlib import Path

from tests.histories.model import QuickModel
from tests.histories.program import asked

from tidegate.cli import main
from tidegate.index import house, pause
from tidegate.index.embedding import registry
from tidegate.index.embedding.embedder import Vectors
from tidegate.index.embedding.local_model import LocalModel


class ToldModel(QuickModel):
    """Does as the file says."""

    def __init__(self, faults: Path):
        super().__init__(LocalModel())
        self._faults = faults

    def embed(self, texts: Sequence[str]) -> Vectors:
        told = json.loads(self._faults.read_text())
        self.away, self.delay_s = told["away"], told["delay_s"]
        asked(self._faults, os.getpid()).touch()
        return super().embed(texts)

    embed_bulk = embed


if __name__ == "__main__":
    file = Path(sys.argv.pop(1))
    registry.LocalModel = lambda: ToldModel(file)  # type: ignore[attr-defined]
    pause.FIRST_S, pause.MOST_S = 0.05, 0.5
    house.HOUSEKEEPING_S = 0.2
    main()
