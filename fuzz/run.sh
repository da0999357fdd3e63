#!/bin/sh
# Runs fuzz targets, TIME seconds each (600), one after the other: those that are named, or all. `--merge` in front
# keeps, instead, of what the runs have made the inputs that show something new (fuzz/corpus).
#
# Needs the nightly toolchain and cargo-fuzz. Without a sanitizer, since no target reaches unsafe code of natd's: what is looked for are
# panics, hangs, memory without bounds and broken promises. See docs/fuzzing.md.
set -eu
cd "$(dirname "$0")"

TIME=${TIME:-600}
# What one input may take: seconds, and megabytes.
HANGS=25
MEMORY=2048
TARGETS=${CARGO_TARGET_DIR:-target}/fuzz

merge=false
if [ "${1:-}" = --merge ]; then
    merge=true
    shift
fi
if [ $# -eq 0 ]; then
    # AWS last: its SDK takes longer to build than all else together.
    for file in host/targets/*.rs clouds/targets/*.rs aws/targets/*.rs; do
        set -- "$@" "$(basename "$file" .rs)"
    done
fi
RUSTC_WRAPPER=$PWD/rustc.sh
export RUSTC_WRAPPER
# The clouds' clients read the system's certificates for each input: one is read quicker than 140.
mkdir -p "$TARGETS"
awk '{ print } /END CERTIFICATE/ { exit }' /etc/ssl/certs/ca-certificates.crt >"$TARGETS/one.pem"
SSL_CERT_FILE=$TARGETS/one.pem
export SSL_CERT_FILE

failed=
for target; do
    file=$(ls ./*/targets/"$target".rs)
    package=$(basename "$(dirname "$(dirname "$file")")")
    work=$TARGETS/work/$target
    mkdir -p "$work" "corpus/$target" "$TARGETS/crashes/$target"
    set -- -rss_limit_mb=$MEMORY -timeout=$HANGS
    if [ -e "dictionaries/$target" ]; then
        set -- "$@" -dict="dictionaries/$target"
    fi
    fuzz() {
        cargo +nightly fuzz run --fuzz-dir "$package" --sanitizer none --codegen-units 16 \
            --target-dir "$TARGETS/$package" "$target" "$@"
    }
    if $merge; then
        rm -rf "$TARGETS/merged"
        mkdir "$TARGETS/merged"
        fuzz "$TARGETS/merged" "corpus/$target" "$work" -- "$@" -merge=1 2>&1 | tail -n 1
        rm -rf "corpus/$target"
        mv "$TARGETS/merged" "corpus/$target"
        continue
    fi
    echo "== $target: $TIME s"
    found=
    if [ -d "found/$target" ]; then
        found=found/$target
    fi
    if fuzz "$work" "corpus/$target" "seeds/$target" ${found:+"$found"} -- "$@" -max_total_time="$TIME" \
        -print_final_stats=1 -artifact_prefix="$TARGETS/crashes/$target/" >"$work.log" 2>&1; then
        grep -E 'stat::number_of_executed_units|stat::peak_rss_mb|^Done' "$work.log"
    else
        failed="$failed $target"
        tail -n 40 "$work.log"
    fi
done
if [ -n "$failed" ]; then
    echo "error: found something:$failed. The inputs are in $TARGETS/crashes; natd is to be mended, and they go to fuzz/found" >&2
    exit 1
fi
