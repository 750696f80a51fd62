"""The three forms that a Russian text has beside a number: 1 пост, 2 поста, 5 постов."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Forms:
    """A text in its forms for 1, 2 to 4, and more. `by`: the name of the value that is the number."""

    by: str
    one: str
    few: str
    many: str

    def of(self, count: int) -> str:
        """The form for a whole number: 1, 21, 101; 2, 3, 4, 22; 0, 5 to 20, 111."""
        last, last_two = abs(count) % 10, abs(count) % 100
        if 11 <= last_two <= 14:
            return self.many
        if last == 1:
            return self.one
        return self.few if 2 <= last <= 4 else self.many
