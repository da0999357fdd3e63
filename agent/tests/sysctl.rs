//! `ProcSys` against the kernel, in namespaces; and against a folder, for what must not happen.

#![expect(clippy::expect_used, reason = "tests say what they expect")]

mod common;

use std::fs::{self, File};

use common::{Namespace, veth};
use natd_agent::sysctl::ProcSys;
use natd_core::{
    error::Kind,
    host::{Sysctl as _, SysctlKey},
};

fn forwarding(interface: &str) -> SysctlKey {
    SysctlKey::ipv4(&interface.parse().expect("a name"), "forwarding")
}

#[test]
fn a_key_is_read_and_written_in_the_threads_own_namespace() {
    let (host, peer) = (Namespace::new("host"), Namespace::new("peer"));
    veth((&host, "eth0.5"), (&peer, "eth0.5"));
    let key = forwarding("eth0.5");
    let read = |namespace: &Namespace| namespace.run(|| ProcSys::default().read(&key));
    assert_eq!(read(&host), Ok(Some("0".to_owned())));

    host.run(|| ProcSys::default().write(&key, "1")).expect("root may");

    assert_eq!(read(&host), Ok(Some("1".to_owned())));
    assert_eq!(host.sh("cat /proc/sys/net/ipv4/conf/eth0.5/forwarding"), "1\n");
    assert_eq!(read(&peer), Ok(Some("0".to_owned())));
}

#[test]
fn a_key_that_is_not_there_reads_as_nothing_and_is_not_made() {
    let folder = tempfile::tempdir().expect("a folder");
    let sysctl = ProcSys::new(folder.path());
    let key = SysctlKey::global("net/netfilter/nf_conntrack_max");
    assert_eq!(sysctl.read(&key), Ok(None));
    fs::create_dir_all(folder.path().join("net/netfilter")).expect("a folder");

    let error = sysctl.write(&key, "1").expect_err("no such key");

    assert_eq!(error.kind(), Kind::NotFound);
    assert!(error.to_string().contains("net.netfilter.nf_conntrack_max"), "{error}");
    assert!(error.advice().is_some_and(|advice| advice.contains("nf_conntrack")), "{error}");
    assert_eq!(sysctl.read(&key), Ok(None));
}

#[test]
fn the_kernels_refusals_are_told_apart() {
    let (host, peer) = (Namespace::new("host"), Namespace::new("peer"));
    veth((&host, "eth0"), (&peer, "eth0"));
    host.sh("nft add table ip t");
    let write = |key: SysctlKey, value| {
        host.run(|| ProcSys::default().write(&key, value)).expect_err("the kernel refuses").kind()
    };
    assert_eq!(write(forwarding("eth0"), "perhaps"), Kind::Invalid);
    assert_eq!(write(forwarding("eth9"), "1"), Kind::NotFound);
    // Only the first namespace may set the size of the table.
    let size = SysctlKey::global("net/netfilter/nf_conntrack_max");
    assert_eq!(write(size, "1000"), Kind::Denied);
}

#[test]
fn a_key_does_not_lead_out_of_the_folder() {
    let folder = tempfile::tempdir().expect("a folder");
    let root = folder.path().join("sys");
    fs::create_dir(&root).expect("a folder");
    File::create(folder.path().join("secret")).expect("a file");
    let absolute = folder.path().join("secret");
    for path in ["../secret", "", absolute.to_str().expect("UTF-8")] {
        let key = SysctlKey::global(path);
        let sysctl = ProcSys::new(&root);
        assert_eq!(sysctl.read(&key).map_err(|e| e.kind()), Err(Kind::Invalid), "{path}");
        assert_eq!(sysctl.write(&key, "1").map_err(|e| e.kind()), Err(Kind::Invalid), "{path}");
    }
}
