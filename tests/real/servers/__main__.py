"""`make servers`: the servers for a person, until Ctrl-C; prints what makes the service and the tests use them."""

from __future__ import annotations

import signal
import sys

from tests.real.servers.druid import Druid
from tests.real.servers.fleet import VARIABLES, Fleet, ini, sections_for
from tests.real.servers.loading import Loader
from tests.real.servers.minio import Minio
from tests.real.traffic import load_traffic

BUCKET = "outliers"


def main() -> int:
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        with Fleet() as fleet:
            for kind in VARIABLES:
                place = fleet.place(kind)
                if place.missing:
                    print(f"no {kind}: {place.missing}", file=sys.stderr)
                if isinstance(place.server, Minio):
                    place.server.make_bucket(BUCKET)
                if isinstance(place.server, Druid):
                    load_traffic(Loader(place.server.coordinator_url, place.url), fleet.folder)
            sections = sections_for({kind: fleet.place(kind) for kind in VARIABLES}, BUCKET)
            print("# The service's config.ini for these servers:\n")
            print(ini(sections))
            print("# For `make test-real` in another shell:\n")
            print("\n".join(fleet.exports()))
            print("\n# Ctrl-C ends them; nothing is kept.", flush=True)
            signal.pause()
    except KeyboardInterrupt:
        print()
    return 0


if __name__ == "__main__":
    sys.exit(main())
