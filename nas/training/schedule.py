"""Plateaus of the training loss, which the rate of learning may follow."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass
class Plateaus:
    """Counts the times that the loss stopped falling.

    Attributes:
        patience: how many values without a better one make a plateau.
        count: plateaus so far.
    """

    patience: int
    count: int = 0
    best: float = float("inf")
    waited: int = 0

    threshold = 1e-4  # a value is better by at least this share

    def see(self, loss: float) -> None:
        """The next mean loss."""
        if loss < self.best * (1 - self.threshold):
            self.best, self.waited = loss, 0
            return
        self.waited += 1
        if self.waited == self.patience:
            self.count, self.waited = self.count + 1, 0
