"""Decisions that rest on a guess, and what somebody answered."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from mtl_ray.errors import InputError


@dataclass(frozen=True)
class Doubt:
    """A decision that a person should look at."""

    key: str
    """Names the decision, such as `user` or `column.income`."""
    question: str
    options: tuple[str, ...]
    guess: str
    """One of the options."""


@dataclass(frozen=True)
class Line:
    """An entry of a section, or a setting, with the reason for it."""

    name: str
    settings: object
    """The setting in the file: a value, a list or a mapping of them."""
    reason: str = ""
    is_guess: bool = False


@dataclass
class Choices:
    """Decides what can be decided in several ways: by the answers, where there is none by the guess."""

    answers: Mapping[str, str] = field(default_factory=dict)
    open: dict[str, Doubt] = field(default_factory=dict)
    """Guesses, by key, in the order in which they were made."""
    asked: set[str] = field(default_factory=set)

    def choose(self, key: str, question: str, options: Sequence[str], guess: str) -> tuple[str, bool]:
        """Return an option, and whether it is a guess.

        Raises:
            InputError: the answer is not one of the options.
        """
        self.asked.add(key)
        if key not in self.answers:
            self.open[key] = Doubt(key, question, tuple(options), guess)
            return guess, True
        if (answer := self.answers[key]) not in options:
            raise InputError(f"answers.{key}: expected one of {', '.join(options)}; found {answer!r}")
        return answer, False

    def refuse_others(self) -> None:
        """Raise InputError for an answer to what nobody asked."""
        for key in self.answers:
            if key not in self.asked:
                asked = ", ".join(sorted(self.asked)) or "nothing"
                raise InputError(f"answers.{key}: expected answers to what is in doubt ({asked}); found another key")


def percent(share: float) -> str:
    """Return a share as a reader wants it: 100% is all of them, and 99.7% is not.

    Example:
        >>> percent(1.0), percent(0.9971), percent(0.1), percent(0.0004)
        ('100%', '99.7%', '10%', '0.04%')
    """
    digits = 2 if 0 < share < 0.001 else 1
    return f"{min(share * 100, 100 if share == 1 else 99.9):.{digits}f}".rstrip("0").rstrip(".") + "%"
