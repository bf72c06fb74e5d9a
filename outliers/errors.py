"""Every error this project raises on purpose; it must not know how an error is told to a caller.

    OutliersError                 one sentence a person can act on, without internals
    ├── ConfigError               the configuration is wrong
    ├── InvalidRequest            malformed: what is wrong, and where
    ├── Unservable                well formed, but a query or model that cannot be served
    │   └── DruidRefused          Druid says that the query is wrong
    ├── DruidError                Druid failed, not the query
    │   ├── DruidUnreachable
    │   ├── DruidTimeout
    │   └── DruidFailed           5xx, HTML, a cut-off or an oversized answer
    ├── StoreError                the store failed
    │   ├── StoreUnavailable      refused, unreachable, wrong credentials
    │   ├── NotFound              no such name or version
    │   └── Conflict              somebody else published first
    ├── ModelError
    │   ├── ModelInvalid          corrupt, wrong digest, or of a newer contract
    │   └── ModelUnsuited         a good model that cannot answer this series; the reason is told
    ├── TrainingError             the job ends with this reason
    │   └── TooLittleData
    ├── QueueError                Redis is unreachable or refuses
    ├── ConsulError               the Consul agent is unreachable or refuses
    └── Overloaded                no room for another request now

Foreign exceptions (requests, botocore, onnxruntime, redis) are translated once, in the room that meets them,
with `raise … from exc`.
"""

from __future__ import annotations


class OutliersError(Exception):
    """Root of what is raised on purpose; `str(error)` is a sentence for a person, without host, path or key."""


class ConfigError(OutliersError):
    """Takes one sentence for each thing that is wrong; `args` are those sentences."""

    def __str__(self) -> str:
        return "; ".join(self.args)


class InvalidRequest(OutliersError):
    pass


class Unservable(OutliersError):
    pass


class DruidRefused(Unservable):
    pass


class DruidError(OutliersError):
    pass


class DruidUnreachable(DruidError):
    pass


class DruidTimeout(DruidError):
    pass


class DruidFailed(DruidError):
    pass


class StoreError(OutliersError):
    pass


class StoreUnavailable(StoreError):
    pass


class NotFound(StoreError):
    pass


class Conflict(StoreError):
    pass


class ModelError(OutliersError):
    pass


class ModelInvalid(ModelError):
    pass


class ModelUnsuited(ModelError):
    pass


class TrainingError(OutliersError):
    pass


class TooLittleData(TrainingError):
    pass


class QueueError(OutliersError):
    pass


class ConsulError(OutliersError):
    pass


class Overloaded(OutliersError):
    pass
