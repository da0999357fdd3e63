#!/usr/bin/env bash
# What the lab needs on a Debian machine: packages, and Python environments with the clouds' API servers.
# Does nothing where all of it is there already. Needs root, as the lab does.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)

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

# environment FOLDER REQUIREMENTS WHAT: a Python environment of exactly these requirements.
environment() {
    if ! cmp -s "$2" "$1/natd-requirements.txt"; then
        echo "installing $3 into $1"
        python3 -m venv "$1"
        "$1/bin/pip" install --quiet --disable-pip-version-check -r "$2"
        cp "$2" "$1/natd-requirements.txt"
    fi
}

environment "${NATD_MOTO_VENV:-/var/cache/natd-venv}" "$here/requirements.txt" "moto and Huawei's SDK"
environment "${NATD_OPENSTACK_VENV:-/var/cache/natd-openstack-venv}" \
    "$here/requirements-openstack.txt" "Keystone and Neutron"
