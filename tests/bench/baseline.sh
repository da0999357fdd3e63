#!/usr/bin/env bash
# What natd replaces, as it is usually written: a boot script around sysctl, iptables and the AWS CLI. `make bench` takes
# its time beside that of `natd apply`. Its arguments are the route tables to serve.
set -euo pipefail

imds=http://169.254.169.254/latest
token=$(curl -sSf -X PUT -H 'X-aws-ec2-metadata-token-ttl-seconds: 300' "$imds/api/token")
about() {
    curl -sSf -H "X-aws-ec2-metadata-token: $token" "$imds/meta-data/$1"
}
AWS_DEFAULT_REGION=$(about placement/region)
export AWS_DEFAULT_REGION
card=network/interfaces/macs/$(about mac)
port=$(about "$card/interface-id")
device=$(ip -o route show default | awk '{print $5; exit}')

sysctl -q -w net.ipv4.ip_forward=1 net.ipv4.conf.all.send_redirects=0 "net.ipv4.conf.$device.send_redirects=0"

for block in $(about "$card/vpc-ipv4-cidr-blocks"); do
    rule=(POSTROUTING -o "$device" -s "$block" -j MASQUERADE)
    iptables -t nat -C "${rule[@]}" 2>/dev/null || iptables -t nat -A "${rule[@]}"
done

aws ec2 modify-network-interface-attribute --network-interface-id "$port" --no-source-dest-check

for table in "$@"; do
    routes=$(aws ec2 describe-route-tables --route-table-ids "$table" --output text \
        --query 'RouteTables[].Routes[].DestinationCidrBlock')
    verb=create-route
    if grep -qwF 0.0.0.0/0 <<<"$routes"; then
        verb=replace-route
    fi
    aws ec2 "$verb" --route-table-id "$table" --destination-cidr-block 0.0.0.0/0 \
        --network-interface-id "$port" >/dev/null
done
