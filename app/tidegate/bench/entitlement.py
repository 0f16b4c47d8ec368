"""Who may see how much: scopes of rows, and principals who hold some of them.

The contract's one rule is `row.scope in user.scopes`. A principal's share is made of whole scopes, as in real life of
tenants, regions or projects.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

_SPREAD = tuple(f"project-{number:02d}" for number in range(40))
_OTHERS = tuple(f"tenant-{number:02d}" for number in range(30))
SHARES: dict[str, float] = {
    "region-wide": 0.2,
    "tenant-large": 0.02,
    "tenant-small": 0.005,
    "tenant-tiny": 0.0005,
    **dict.fromkeys(_SPREAD, 0.03 / len(_SPREAD)),
    **dict.fromkeys(_OTHERS, (1 - 0.2 - 0.02 - 0.005 - 0.0005 - 0.03) / len(_OTHERS)),
}
"""Scope → share of the rows."""
SCOPES = tuple(SHARES)


@dataclass(frozen=True, slots=True)
class Principal:
    """Somebody who searches. `role`: a login of the server's; `label`: the share that it may see."""

    label: str
    role: str
    scopes: tuple[str, ...]

    def sees(self, scope_of: NDArray[np.int16]) -> NDArray[np.bool_]:
        """Which rows are visible. `scope_of`: a row's place in SCOPES."""
        return np.isin(scope_of, [SCOPES.index(scope) for scope in self.scopes])


PRINCIPALS = (
    Principal("100 %", "tidegate_bench_all", SCOPES),
    Principal("20 %", "tidegate_bench_wide", ("region-wide",)),
    Principal("3 % in 40 scopes", "tidegate_bench_spread", _SPREAD),
    Principal("2 %", "tidegate_bench_large", ("tenant-large",)),
    Principal("0.5 %", "tidegate_bench_small", ("tenant-small",)),
    Principal("0.05 %", "tidegate_bench_tiny", ("tenant-tiny",)),
)

STAIRS = tuple(
    Principal(label, f"tidegate_bench_stair_{number}", scopes)
    for number, (label, scopes) in enumerate(
        (
            ("0.05 %", ("tenant-tiny",)),
            ("0.15 %", _SPREAD[:2]),
            ("0.3 %", _SPREAD[:4]),
            ("0.5 %", ("tenant-small",)),
            ("1 %", _SPREAD[:13]),
            ("2 %", ("tenant-large",)),
            ("5 %", _OTHERS[:2]),
            ("10 %", _OTHERS[:4]),
            ("20 %", _OTHERS[:8]),
            ("30 %", _OTHERS[:12]),
            ("50 %", _OTHERS[:20]),
        )
    )
)
"""Each may see more than the one before."""


def scopes_in_runs(rows: int) -> NDArray[np.int16]:
    """A scope a row, in runs: for rows that lie side by side where they belong together."""
    ends = np.rint(np.cumsum(list(SHARES.values())) * rows).astype(int)
    return np.searchsorted(ends, np.arange(rows), side="right").clip(max=len(SCOPES) - 1).astype(np.int16)


def scopes_mixed(rows: int, seed: int) -> NDArray[np.int16]:
    """The same shares at random."""
    mixed: NDArray[np.int16] = np.random.default_rng((seed, 7)).permutation(scopes_in_runs(rows))
    return mixed
