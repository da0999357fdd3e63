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

# A small Debian with systemd and everything that loads firewall rules at boot. The tests write into
# layers over it.
tree=${NATD_TREE:-/var/cache/natd-tree}
contents=systemd,systemd-sysv,dbus,iptables,nftables,iproute2,iptables-persistent,kmod,procps
if [ "$(cat "$tree/.natd-contents" 2>/dev/null)" != "$contents" ]; then
    echo "making a Debian tree in $tree"
    rm -rf "$tree.new"
    if ! debootstrap --variant=minbase --include="$contents" bookworm "$tree.new" > "$tree.log" 2>&1; then
        tail -n 20 "$tree.log" >&2
        echo "error: the Debian tree was not made; $tree.log tells why" >&2
        exit 1
    fi
    rm -rf "$tree.new/var/cache/apt/archives" "$tree.new/usr/share/doc" "$tree.new/usr/share/locale"
    echo "$contents" > "$tree.new/.natd-contents"
    rm -rf "$tree"
    mv "$tree.new" "$tree"
fi

# The same with other programs that have a firewall of their own: ufw, firewalld and Docker, none of which
# starts by itself. ufw and iptables-persistent exclude each other. busybox is what a container is made of.
neighbours=${NATD_NEIGHBOURS_TREE:-/var/cache/natd-neighbours}
packages="ufw firewalld docker.io busybox-static curl"
if [ "$(cat "$neighbours/.natd-contents" 2>/dev/null)" != "$contents + $packages" ]; then
    echo "making a Debian tree with ufw, firewalld and Docker in $neighbours"
    rm -rf "$neighbours.new"
    cp -a "$tree" "$neighbours.new"
    # Nothing is started by its installation (policy-rc.d), and nothing is enabled.
    printf '#!/bin/sh\nexit 101\n' > "$neighbours.new/usr/sbin/policy-rc.d"
    chmod 755 "$neighbours.new/usr/sbin/policy-rc.d"
    cp /etc/resolv.conf "$neighbours.new/etc/resolv.conf"
    mkdir -p "$neighbours.new/etc/systemd/system-preset"
    echo 'disable *' > "$neighbours.new/etc/systemd/system-preset/00-none.preset"
    if ! DEBIAN_FRONTEND=noninteractive chroot "$neighbours.new" sh -ec "
        apt-get update -qq
        apt-get install -y -qq --no-install-recommends $packages
        systemctl disable ufw firewalld docker.service docker.socket containerd
    " > "$neighbours.log" 2>&1; then
        tail -n 20 "$neighbours.log" >&2
        echo "error: the tree with neighbours was not made; $neighbours.log tells why" >&2
        exit 1
    fi
    rm -rf "$neighbours.new/usr/sbin/policy-rc.d" "$neighbours.new/etc/systemd/system-preset/00-none.preset" \
        "$neighbours.new/var/cache/apt/archives" "$neighbours.new/var/lib/apt/lists" \
        "$neighbours.new/usr/share/doc" "$neighbours.new/usr/share/locale"
    echo "$contents + $packages" > "$neighbours.new/.natd-contents"
    rm -rf "$neighbours"
    mv "$neighbours.new" "$neighbours"
fi
