"""What a training job came to: exactly one Outcome each; must not know Redis, Druid or how a model is fitted."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from outliers.errors import DruidError, OutliersError, StoreError, StoreUnavailable

KINDS = ("published", "kept", "refused", "failed")


@dataclass(frozen=True)
class Outcome:
    """How one job ended.

    kind: published (a new version serves), kept (the old one goes on serving), refused (nothing serves and
        nothing was published), failed (the job could not be done; every retry was used or none could help).
    version: the version that serves the name now, where there is one.
    reason: one sentence; None only when published without a remark.
    figures: points, epochs, losses, thresholds and seconds by step, for `jobs show` and the metrics.
    """

    kind: str
    version: str | None = None
    reason: str | None = None
    figures: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.kind not in KINDS:
            raise ValueError(f"an outcome is one of {', '.join(KINDS)}, not {self.kind}")

    def __str__(self) -> str:
        head = f"{self.kind} {self.version}" if self.kind in ("published", "kept") else self.kind
        return f"{head}: {self.reason}" if self.reason else head

    def as_dict(self) -> dict[str, Any]:
        return {**asdict(self), "text": str(self)}


def declined(version: str | None, reason: str, figures: Mapping[str, Any] | None = None) -> Outcome:
    """`kept` where a version serves already, else `refused`."""
    return Outcome("kept" if version else "refused", version, reason, figures or {})


def may_pass(error: BaseException) -> bool:
    """Whether the same job could succeed later without anybody changing anything.

    Druid or the store down, slow or failing: yes. What this project refuses on purpose (a query that Druid
    rejects, a wrong configuration): no. What nobody foresaw (a full disk, a bug): worth another try.
    """
    if isinstance(error, StoreError):
        return isinstance(error, StoreUnavailable)
    return isinstance(error, DruidError) or not isinstance(error, OutliersError)
