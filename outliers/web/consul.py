"""This node's entry in Consul, through the local agent's HTTP interface; it must not know who serves requests.

The entry has the ID that the Chef cookbook gives it, so that both never list a node twice.
"""

from __future__ import annotations

import contextlib
import json
import logging
import socket
import threading
from typing import Any
from urllib.parse import quote

import requests

from outliers.config import Config
from outliers.errors import ConsulError

SERVICE = "rb-aioutliers"
TIMEOUTS_S = (2.0, 5.0)  # connect, read: the agent is on this node or next to it
LONGEST_PAUSE_S = 30.0
_WILDCARDS = ("", "0.0.0.0", "::", "*")  # noqa: S104 - compared with, not listened on
_log = logging.getLogger(__name__)


class ConsulAgent:
    """Registers and deregisters this node. Raises ConsulError where the agent is out of reach or refuses."""

    def __init__(self, config: Config) -> None:
        self._settings = config.consul
        self._server = config.server
        self.service_id = f"{SERVICE}-{socket.gethostname().partition('.')[0]}"

    def register(self) -> None:
        """Put this node into Consul, in place of whatever it was registered as before."""
        self._ask("PUT", "service/register?replace-existing-checks=true", self.definition())

    def deregister(self) -> None:
        """Take this node out of Consul; fine where it was not in."""
        self._ask("PUT", f"service/deregister/{quote(self.service_id, safe='')}", missing_is_fine=True)

    def is_registered(self) -> bool:
        """Tell whether the agent knows this node; one that was restarted without memory does not."""
        answer = self._ask("GET", f"service/{quote(self.service_id, safe='')}", missing_is_fine=True)
        return answer is not None

    def keep_registered(self, stop: threading.Event) -> None:
        """Be registered until `stop` is set, and then no more; whatever the agent does meanwhile is only logged."""
        pause_s = min(max(self._settings.check_interval_s, 0.5), LONGEST_PAUSE_S)
        trouble, registered = "", False
        while not stop.is_set():
            try:
                if not registered or not self.is_registered():
                    self.register()
                    _log.info("registered in Consul as %s", self.service_id)
                registered, trouble = True, ""
            except ConsulError as error:
                if str(error) != trouble:
                    _log.warning("not registered in Consul: %s", error)
                registered, trouble = False, str(error)
            stop.wait(pause_s)
        try:
            self.deregister()
            _log.info("deregistered from Consul")
        except ConsulError as error:
            _log.warning("still registered in Consul, until its check fails: %s", error)

    def definition(self) -> dict[str, Any]:
        """Return what is registered: a service with an HTTP check on /ready."""
        bound = self._server.address
        host = self._own_address() if bound in _WILDCARDS else bound
        url_host = f"[{host}]" if ":" in host else host
        definition: dict[str, Any] = {
            "ID": self.service_id,
            "Name": SERVICE,
            "Port": self._server.port,
            "Check": {
                "Name": "ready to answer",
                "HTTP": f"http://{url_host}:{self._server.port}/ready",
                "Method": "GET",
                "Interval": f"{self._settings.check_interval_s:g}s",
                "Timeout": "5s",
                "DeregisterCriticalServiceAfter": f"{self._settings.deregister_after_s:g}s",
            },
        }
        if bound not in _WILDCARDS or not _is_loopback(host):
            definition["Address"] = host  # else the agent's own address, which is this node's
        return definition

    def _own_address(self) -> str:
        """Return this node's address as the agent sees it (no packet is sent)."""
        with contextlib.suppress(OSError):
            family, kind, *_, address = socket.getaddrinfo(
                self._settings.address, self._settings.port, type=socket.SOCK_DGRAM
            )[0]
            with socket.socket(family, kind) as probe:
                probe.connect(address)
                return str(probe.getsockname()[0])
        return "127.0.0.1"

    def _ask(self, method: str, path: str, body: Any = None, missing_is_fine: bool = False) -> Any:
        """Ask the agent; returns its answer, None where it knows no such service."""
        host = f"[{self._settings.address}]" if ":" in self._settings.address else self._settings.address
        headers = {"X-Consul-Token": self._settings.token} if self._settings.token else {}
        try:
            answer = requests.request(
                method,
                f"http://{host}:{self._settings.port}/v1/agent/{path}",
                json=body,
                headers=headers,
                timeout=TIMEOUTS_S,
                allow_redirects=False,
            )
        except requests.Timeout as error:
            raise ConsulError("the Consul agent did not answer in time") from error
        except requests.RequestException as error:
            raise ConsulError("the Consul agent cannot be reached") from error
        if answer.status_code == 404 and missing_is_fine:
            return None
        if answer.status_code in (401, 403):
            raise ConsulError(f"the Consul agent refuses the token of [Consul] ({answer.status_code})")
        if answer.status_code != 200:
            raise ConsulError(f"the Consul agent refuses with status {answer.status_code}")
        try:
            return answer.json() if answer.content else {}
        except (requests.JSONDecodeError, json.JSONDecodeError) as error:
            raise ConsulError("what answers in place of the Consul agent is none") from error


def _is_loopback(host: str) -> bool:
    return host.startswith("127.") or host == "::1"
