#!/bin/sh
# requirements/lock.sh [NAME…]: write the lock files, versions and hashes of all that is installed, with pip-tools.
#
#   executor-el7.lock   Python 3.9, glibc 2.17: what the EL7 package carries
#   executor.lock       Python 3.11 and later
#   trainer.lock        Python 3.11 and later: executor and trainer together
#
# Hashes are those of all files of a release, so that a lock serves every architecture. No index is written down:
# pip's own configuration says where from.
set -eu
cd "$(dirname "$0")/.."
[ $# -gt 0 ] || set -- executor-el7 executor trainer

lock() { # NAME PYTHON INPUT…
    name=$1 python=$2
    shift 2
    tools=build/lock-$python
    if [ ! -x "$tools/bin/pip-compile" ]; then
        "$(make/find-python.sh "$python")" -m venv "$tools"
        "$tools/bin/pip" install -q 'pip-tools>=7.5'
    fi
    new=build/$name.lock
    "$tools/bin/pip-compile" -q --generate-hashes --allow-unsafe --strip-extras --no-header --annotation-style=line \
        --no-emit-index-url --no-emit-find-links --no-emit-trusted-host --no-emit-options \
        --upgrade --output-file "$new" "$@"
    { echo "# Written by requirements/lock.sh for $python and later; not by hand."; cat "$new"; } > "requirements/$name.lock"
    echo "requirements/$name.lock: $(grep -c == "requirements/$name.lock") packages"
}

mkdir -p build
for name; do
    case $name in
        executor-el7) lock "$name" python3.9 requirements/executor-el7.in ;;
        executor) lock "$name" python3.11 requirements.txt ;;
        trainer) lock "$name" python3.11 requirements.txt requirements-train.txt ;;
        *) echo "no lock is called $name" >&2; exit 2 ;;
    esac
done
