"""Where models are kept: one store over a directory or S3, and the executor's local mirror of what is served."""

from __future__ import annotations

from outliers.config import Config
from outliers.store.base import Latest, Store, Stored
from outliers.store.mirror import Mirror, MirrorReport, last_report
from outliers.store.names import Key, key_of, name_of, new_version

__all__ = [
    "Key", "Latest", "Mirror", "MirrorReport", "Store", "Stored",
    "key_of", "last_report", "name_of", "new_version", "open_store",
]  # fmt: skip


def open_store(config: Config) -> Store:
    """Return the configured store, without asking it anything yet."""
    if config.store.kind == "s3":
        from outliers.store.s3 import S3Files  # boto3 is slow and large: only where it is used

        return Store(S3Files(config.aws), "S3")
    from outliers.store.directory import DirectoryFiles

    return Store(DirectoryFiles(config.store.directory), "directory")
