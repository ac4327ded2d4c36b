"""Mean and deviation of numbers, added up over partitions."""

from dataclasses import dataclass

import numpy as np

FARTHEST = 1e6
"""Deviations from the mean beyond which a number is not told from others. No training row is so far off: of n rows none
is farther than the root of n. A larger number would overflow within the model, where its powers are formed."""


@dataclass
class Moments:
    """Count, mean and sum of squared deviations; two add up to those of both (Chan et al. 1979)."""

    count: int = 0
    mean: float = 0.0
    squares: float = 0.0

    @classmethod
    def of(cls, numbers: np.ndarray) -> "Moments":
        """Describe (n,) numbers, leaving out NaN."""
        numbers = numbers[~np.isnan(numbers)]
        if not len(numbers):
            return cls()
        mean = float(numbers.mean())
        return cls(len(numbers), mean, float(((numbers - mean) ** 2).sum()))

    def __add__(self, other: "Moments") -> "Moments":
        count = self.count + other.count
        if not count:
            return Moments()
        shift = other.mean - self.mean
        mean = self.mean + shift * other.count / count
        return Moments(count, mean, self.squares + other.squares + shift**2 * self.count * other.count / count)

    @property
    def std(self) -> float:
        """Standard deviation of the population."""
        return (self.squares / self.count) ** 0.5 if self.count else 0.0

    @property
    def is_constant(self) -> bool:
        """True if all numbers are equal, or there is none."""
        return self.std == 0

    @property
    def scale(self) -> tuple[float, float] | tuple[None, None]:
        """Mean and deviation by which numbers are standardised, the latter never 0; (None, None) without numbers."""
        return (self.mean, self.std or 1.0) if self.count else (None, None)


def scaled(numbers: np.ndarray, mean: float | None, std: float | None) -> np.ndarray:
    """Return (n,) float32 numbers in units of the deviation from the mean, `FARTHEST` at most; NaN stays."""
    return np.clip((numbers - (mean or 0.0)) / (std or 1.0), -FARTHEST, FARTHEST).astype(np.float32)


def standardised(numbers: np.ndarray, mean: float | None, std: float | None) -> np.ndarray:
    """Return numbers like `scaled`, with 0 for NaN."""
    return np.nan_to_num(scaled(numbers, mean, std))
