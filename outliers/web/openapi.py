"""The service's own description of its routes, read from the file beside this one; knows not how they are served."""

from __future__ import annotations

import json
from functools import lru_cache
from pathlib import Path
from typing import Any

from outliers import __version__


@lru_cache(maxsize=2)
def document(with_token: bool) -> dict[str, Any]:
    """Return the OpenAPI document; with_token: callers must send one. Not to be changed."""
    path = Path(__file__).with_name("openapi.json")
    described: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    described["info"]["version"] = __version__
    if with_token:
        described["components"]["securitySchemes"] = {"token": {"type": "http", "scheme": "bearer"}}
        described["security"] = [{"token": []}]
    return described
