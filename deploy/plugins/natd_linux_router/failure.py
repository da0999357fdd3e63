"""What natd is told when something failed."""

from __future__ import annotations



class Failure(Exception):
    """What natd is told: a kind that it decides on, why, and what the operator can do."""

    def __init__(self, kind: str, cause: str, advice: str | None = None) -> None:
        super().__init__(cause)
        self.data = {"kind": kind, "cause": cause}
        if advice:
            self.data["advice"] = advice
