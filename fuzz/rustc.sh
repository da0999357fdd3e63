#!/bin/sh
# rustc for `make fuzz`: aws-sdk-ec2 is built without the instrumentation. It is not what is fuzzed, and with
# its 600 operations instrumented it would take most of the time of each run.
set -eu
case " $* " in
    *" --crate-name aws_sdk_ec2 "*)
        for argument; do
            shift
            case $argument in
                -Cpasses=* | -Cllvm-args=* | -Ccodegen-units=1 | -Clink-dead-code) ;;
                *) set -- "$@" "$argument" ;;
            esac
        done
        ;;
esac
exec "$@"
