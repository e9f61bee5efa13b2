"""Keeps a run under `--max-cost`: what is in flight counts with the most that it can cost.

It knows no prices. Near the limit calls wait for those in flight, whose true cost is usually
far below the most they could have cost, so the budget is used up rather than half of it reserved in vain.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field

from safetyqc.errors import BudgetReached


@dataclass
class Budget:
    """Money that may be spent and money that was.

    Args:
        max_usd: None for no limit.
        spent_usd: what the run had cost before.
    """

    max_usd: float | None = None
    spent_usd: float = 0.0
    reserved_usd: float = 0.0
    _settled: asyncio.Event = field(default_factory=asyncio.Event)

    async def reserve(self, most_usd: float) -> float:
        """Set aside the most that a call can cost, waiting for calls in flight where only they can make room.

        Raises:
            BudgetReached: the call could pass the limit, and nothing in flight can change that.
        """
        while self.max_usd is not None and self.spent_usd + self.reserved_usd + most_usd > self.max_usd:
            if self.reserved_usd <= 0:
                raise BudgetReached(
                    f"stopped at ${self.spent_usd:.4f} of ${self.max_usd:g}: one more call may cost ${most_usd:.4f}"
                )
            self._settled.clear()
            await self._settled.wait()
        self.reserved_usd += most_usd
        return most_usd

    def settle(self, reserved_usd: float, cost_usd: float | None) -> None:
        """Replace a reservation by what the call cost; a counted call without a known cost costs its reservation."""
        self.reserved_usd = max(self.reserved_usd - reserved_usd, 0.0)
        if self.reserved_usd < 1e-12:
            self.reserved_usd = 0.0  # the rounding errors of many sums must not look like a call in flight
        self.spent_usd += reserved_usd if cost_usd is None else cost_usd
        self._settled.set()
