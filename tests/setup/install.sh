#!/usr/bin/env bash
# What the lab needs on a Debian machine: packages, and a Python environment with moto.
# Does nothing where all of it is there already. Needs root, as the lab does.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
venv=${NATD_MOTO_VENV:-/var/cache/natd-venv}

if [ "$(id -u)" -ne 0 ]; then
    echo "error: the lab is made of network namespaces and needs root: run this as root (sudo -E make …)" >&2
    exit 1
fi

missing=()
while read -r package; do
    dpkg-query -W -f '${Status}' "$package" 2>/dev/null | grep -q 'ok installed' || missing+=("$package")
done < "$here/packages.txt"
if [ ${#missing[@]} -gt 0 ]; then
    echo "installing ${missing[*]}"
    export DEBIAN_FRONTEND=noninteractive
    apt-get update -qq
    apt-get install -y -qq --no-install-recommends "${missing[@]}" > /dev/null
fi

stamp=$venv/natd-requirements.txt
if ! cmp -s "$here/requirements.txt" "$stamp"; then
    echo "installing moto into $venv"
    python3 -m venv "$venv"
    "$venv/bin/pip" install --quiet --disable-pip-version-check -r "$here/requirements.txt"
    cp "$here/requirements.txt" "$stamp"
fi
