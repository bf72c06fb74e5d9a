#!/bin/sh
# make/system.sh COMMAND:PACKAGE…: install with apt what is not there; where that cannot be done, say it and go on
# (the tests that need it then fail or skip with the same sentence).
set -eu
missing=
for pair in "$@"; do
    command -v "${pair%%:*}" >/dev/null 2>&1 || missing="$missing ${pair##*:}"
done
[ -n "$missing" ] || exit 0
if ! command -v apt-get >/dev/null 2>&1; then
    echo "not installed and no apt-get here: please install$missing" >&2
    exit 0
fi
sudo=
[ "$(id -u)" = 0 ] || sudo="sudo -n"
echo "installing$missing" >&2
export DEBIAN_FRONTEND=noninteractive
$sudo apt-get update -qq && $sudo apt-get install -y -qq --no-install-recommends $missing >/dev/null ||
    echo "could not install$missing: please install by hand" >&2
