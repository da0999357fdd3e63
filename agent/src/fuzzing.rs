//! What natd promises of what it reads on its own host, as functions of arbitrary bytes: they panic where a promise is
//! broken. See `natd_core::fuzzing` and `docs/fuzzing.md`.

#[path = "../../fuzz/shared.rs"]
pub(crate) mod shared;

/// What `iptables-save` prints.
pub fn iptables_save(input: &[u8]) {
    crate::firewall::iptables::fuzzing::iptables_save(input);
}

/// What the kernel tells by netlink, and what `nft` prints.
pub fn netlink(input: &[u8]) {
    crate::firewall::nftables::fuzzing::netlink(input);
}

#[cfg(test)]
mod tests {
    use super::shared::replay;

    #[test]
    fn iptables_save() {
        replay("iptables_save", super::iptables_save);
    }

    #[test]
    fn netlink() {
        replay("netlink", super::netlink);
    }
}
