"""`make servers`: the servers for a person, until Ctrl-C; prints what makes the service and the tests use them.

    python -m tests.real.servers [--obtain]

--obtain only fetches and builds what is not in the cache yet, and says what cannot be had here.
"""

from __future__ import annotations

import signal
import sys

from outliers.times import instant_text
from tests.real.servers.druid import Druid
from tests.real.servers.fleet import VARIABLES, Fleet, ini, obtain_all, sections_for
from tests.real.servers.loading import Loader
from tests.real.servers.minio import Minio
from tests.real.servers.obtain import ObtainFailed
from tests.real.traffic import NAMES, NOW_S, load_traffic

BUCKET = "outliers"


def obtain() -> None:
    for line in obtain_all():
        print(f"{line}: its tests are left out")


def serve() -> None:
    with Fleet() as fleet:
        for kind in VARIABLES:
            print(f"starting {kind}", file=sys.stderr)
            place = fleet.place(kind)
            if place.missing:
                print(f"no {kind}: {place.missing}", file=sys.stderr)
            if isinstance(place.server, Minio):
                place.server.make_bucket(BUCKET)
            if isinstance(place.server, Druid):
                print(f"loading three weeks of {', '.join(NAMES)}", file=sys.stderr)
                load_traffic(Loader(place.server.coordinator_url, place.url), fleet.folder)
        sections = sections_for({kind: fleet.place(kind) for kind in VARIABLES}, BUCKET)
        print(
            f"# The service's config.ini for these servers; Druid's newest event is of {instant_text(NOW_S * 1000)}:\n"
        )
        print(ini(sections))
        print("# For `make test-real` in another shell:\n")
        print("\n".join(fleet.exports()))
        print("\n# Ctrl-C ends them; nothing is kept.", flush=True)
        signal.pause()


def main(arguments: list[str]) -> int:
    for number in (signal.SIGINT, signal.SIGTERM):  # a shell starts what is in the background deaf to Ctrl-C
        signal.signal(number, signal.default_int_handler)
    try:
        obtain() if arguments == ["--obtain"] else serve()
    except KeyboardInterrupt:
        print()
    except ObtainFailed as error:
        print(f"\n{error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
