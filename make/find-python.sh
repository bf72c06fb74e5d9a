#!/bin/sh
# make/find-python.sh NAME: print the path of a Python that is called NAME (python3.9), on the PATH or known to pyenv.
set -eu
name=$1
works() { "$1" -c 'import venv, ssl' >/dev/null 2>&1; }
if command -v "$name" >/dev/null 2>&1 && works "$name"; then
    command -v "$name"
    exit 0
fi
if command -v pyenv >/dev/null 2>&1; then
    for version in $(pyenv whence "$name" 2>/dev/null); do
        path=$(pyenv prefix "$version")/bin/$name
        if works "$path"; then
            echo "$path"
            exit 0
        fi
    done
fi
echo "no $name found on the PATH or by pyenv" >&2
exit 1
