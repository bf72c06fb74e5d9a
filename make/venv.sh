#!/bin/sh
# make/venv.sh DIR [PYTHON]: make a virtual environment with PYTHON, or with the first suitable interpreter found by name.
set -eu
dir=$1
python=${2:-}
suitable() { command -v "$1" >/dev/null 2>&1 && "$1" -c 'import sys; sys.exit(sys.version_info < (3, 10))' >/dev/null 2>&1; }
if [ -z "$python" ]; then
    for name in python3.11 python3.12 python3.13 python3.10 python3; do
        if suitable "$name"; then python=$name; break; fi
    done
fi
[ -n "$python" ] || { echo "no Python of 3.10 or later found; name one: make PYTHON=…" >&2; exit 1; }
suitable "$python" || { echo "$python is no Python of 3.10 or later" >&2; exit 1; }
if ! "$python" -m venv "$dir"; then
    rm -rf "$dir"
    echo "$python cannot make virtual environments; installing the module" >&2
    version=$("$python" -c 'import sys; print("%d.%d" % sys.version_info[:2])')
    if [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null; then
        apt-get update -qq
        apt-get install -y -qq "python$version-venv" || apt-get install -y -qq python3-venv
    fi
    "$python" -m venv "$dir"
fi
"$dir/bin/python" -m pip install -q --upgrade pip
