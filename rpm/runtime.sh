#!/bin/sh
# rpm/runtime.sh ROLE LOCK PYTHON INTERPRETER DEST FINAL: make the complete, relocatable environment of a package.
#
#   ROLE         executor | trainer
#   LOCK         name of a file in requirements/, without .lock; its hashes are checked
#   PYTHON       the Python that builds; the package runs on the same minor version
#   INTERPRETER  what the package runs: a name looked up on the PATH, or "bundled" = DEST/python
#   DEST, FINAL  where it is made, and where it will be installed (for the paths in tracebacks)
#
# TORCH_INDEX in the environment: a package index with torch's CPU build, used for torch alone; without it torch comes
# as its plain name gives it, which on x86_64 brings gigabytes of CUDA.
# Run in the project's root; pip's own configuration says where packages come from.
set -eu
role=$1 lock=$2 python=$3 interpreter=$4 dest=$5 final=$6
lib=$dest/lib
mkdir -p "$lib" "$dest/bin"

# --- packages: onnxruntime lists sympy and coloredlogs, but imports neither when it serves ---------------------------
left_out='coloredlogs humanfriendly'
[ "$role" = trainer ] || left_out="$left_out sympy mpmath"  # torch does import sympy
if [ "$role" = trainer ]; then
    left_out="$left_out triton"  # compiles for GPUs only; 700 MB
    [ -z "${TORCH_INDEX:-}" ] || left_out="$left_out torch nvidia- cuda-"
fi
wanted=$dest/wanted.txt
cp "requirements/$lock.lock" "$wanted"
for name in $left_out; do # an entry goes on while lines are indented
    awk -v name="$name" '/^[^ #]/ { out = index($0, name) == 1 && ($0 ~ "^" name "==" || name ~ /-$/) } !out' \
        "$wanted" >"$wanted.new"
    mv "$wanted.new" "$wanted"
done
tags=
if [ "$lock" = executor-el7 ]; then # wheels for glibc 2.17, whatever this machine has
    arch=$(uname -m)
    tags="--platform manylinux2014_$arch --platform manylinux_2_17_$arch --platform manylinux2010_$arch --platform manylinux_2_12_$arch --platform manylinux1_$arch --platform manylinux_2_5_$arch"
fi
# shellcheck disable=SC2086
"$python" -m pip install -q --no-deps --require-hashes --only-binary :all: --no-compile --no-warn-conflicts \
    --disable-pip-version-check --root-user-action=ignore $tags --target "$lib" -r "$wanted"
rm "$wanted"
if [ "$role" = trainer ] && [ -n "${TORCH_INDEX:-}" ]; then
    "$python" -m pip install -q --no-deps --only-binary :all: --no-compile --disable-pip-version-check \
        --root-user-action=ignore --target "$lib" --index-url "$TORCH_INDEX" "$(grep '^torch==' requirements-train.txt)"
fi

# --- our own code -----------------------------------------------------------------------------------------------------
cp -R outliers "$lib/"
if [ "$role" = trainer ]; then cp -R export "$lib/"; else rm -rf "$lib/outliers/train"; fi
cat >"$lib/rb_aioutliers_start.py" <<'PY'
import sys

from outliers.__main__ import main

if __name__ == "__main__":
    sys.exit(main())
PY
cat >"$dest/bin/rb-aioutliers" <<'SH'
#!/bin/sh
# Runs the Python environment beside this file, wherever it lies; the system's packages and the user's are not seen.
here=$(dirname "$(dirname "$(readlink -f "$0")")")
export PYTHONPATH="$here/lib" PYTHONNOUSERSITE=1 PYTHONDONTWRITEBYTECODE=1
unset PYTHONHOME PYTHONSTARTUP
exec @INTERPRETER@ -s "$here/lib/rb_aioutliers_start.py" "$@"
SH
case $interpreter in
    bundled) run='"$here/python/bin/python3"' ;;
    *) run=$interpreter ;;
esac
sed -i "s|@INTERPRETER@|$run|" "$dest/bin/rb-aioutliers"
chmod 755 "$dest/bin/rb-aioutliers"

# --- what is never used when it runs ----------------------------------------------------------------------------------
rm -rf "$lib/bin" "$lib/share" "$lib/include"
find "$lib" -type d \( -name tests -o -name test -o -name __pycache__ \) -prune -exec rm -rf {} +
find "$lib" -type f \( -name '*.pyi' -o -name '*.pyx' -o -name '*.pxd' -o -name '*.a' -o -name '*.lib' -o -name '*.h' \
    -o -name '*.hpp' -o -name '*.cuh' -o -name '*.c' -o -name '*.cpp' -o -name '*.cu' \) -delete
for service in botocore/data boto3/data; do
    find "$lib/$service" -mindepth 1 -maxdepth 1 -type d ! -name s3 ! -name sts -exec rm -rf {} +
done
rm -rf "$lib/boto3/examples" "$lib"/onnxruntime/quantization "$lib"/onnxruntime/transformers \
    "$lib"/onnxruntime/tools "$lib"/onnxruntime/datasets "$lib"/numpy/f2py "$lib"/numpy/random/_examples \
    "$lib"/torch/include "$lib"/torch/share "$lib"/torch/bin/protoc*
rm -f "$lib"/onnxruntime/capi/libonnxruntime.so* # for programs in C: the Python module has its own copy inside
find "$lib" -depth -type d -empty -delete

# --- byte code, so that nothing is compiled at start and nothing is written there --------------------------------------
"$python" -m compileall -q -j 2 --invalidation-mode unchecked-hash -s "$dest" -p "$final" "$lib" >/dev/null || true
find "$dest" -type d -exec chmod 755 {} +
