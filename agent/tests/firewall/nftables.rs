//! The nftables back end.

use natd_agent::firewall::Nftables;
use natd_core::{
    error::Kind,
    host::{Depth, Firewall as _},
    ruleset::Rendering,
};

use crate::{
    DEADLINE, assert_damage, assert_intact, in_namespace, other_rendering, rendering, run, script,
};

fn nftables() -> Nftables {
    Nftables::new("nft", DEADLINE)
}

/// A foreign nftables ruleset, and what it looks like, handles included.
async fn foreign_nftables() -> String {
    run("nft -f - <<END
table inet natd-else {
    chain forward {
        type filter hook forward priority 0; policy drop;
        iifname eth7 accept comment \"natd:0123456789abcdef:1/1\"
    }
}
END")
    .await;
    run("nft -a list ruleset").await
}

#[test]
fn loads_replaces_and_reads_back() {
    in_namespace(|| async {
        let firewall = nftables();
        assert_eq!(firewall.loaded(Depth::Elements).await.expect("readable"), None);
        for rendering in [rendering(firewall.kind()), other_rendering(firewall.kind())] {
            firewall.load(&rendering).await.expect("loads");
            assert_intact(&firewall, &rendering).await;
        }
        let table = run("nft list ruleset").await;
        assert!(table.contains("masquerade fully-random") && !table.contains("snat"), "{table}");
        assert_eq!(run("cat /proc/net/ip_tables_names").await, "");
    });
}

#[test]
fn tells_each_tampering() {
    in_namespace(|| async {
        let firewall = nftables();
        let delete_rule = "handle=$(nft -a list table inet natd | sed -n 's/.*:2\\/4.*handle //p')
            nft delete rule inet natd forward handle $handle";
        let move_rule = "handle=$(nft -a list table inet natd | sed -n 's/.*:2\\/4.*handle //p')
            nft delete rule inet natd forward handle $handle
            digest=$(nft list table inet natd | sed -n 's/.*natd:\\(.*\\):4\\/4.*/\\1/p')
            nft add rule inet natd forward drop comment \\\"natd:$digest:2/4\\\"";
        for (tampering, damage) in [
            ("nft flush ruleset", None),
            ("nft delete table inet natd", None),
            ("nft flush table inet natd", Some("all rules are missing")),
            ("nft flush chain inet natd postrouting", Some("rule 4 of 4 is missing")),
            (
                "nft flush chain inet natd postrouting; nft delete chain inet natd postrouting",
                Some("chain postrouting is missing"),
            ),
            (delete_rule, Some("rule 2 of 4 is missing")),
            (move_rule, Some("rule 2 of 4 is out of its place")),
            ("nft insert rule inet natd forward accept", Some("foreign rules in forward: 1")),
            ("nft add chain inet natd more", Some("chain more is foreign")),
            ("nft chain inet natd forward '{ policy drop; }'", Some("chain forward has another")),
            (
                "nft add table inet natd '{ flags dormant; }'",
                Some("the table is not as natd made it"),
            ),
            ("nft delete element inet natd sources '{ 10.20.0.7 }'", Some("set sources has other")),
            ("nft add element inet natd exclude '{ 192.0.2.0/24 }'", Some("set exclude has other")),
            ("nft flush set inet natd exclude", Some("set exclude has other")),
            ("nft add set inet natd more '{ type inet_service; }'", Some("set more is foreign")),
            ("nft add counter inet natd more", Some("a foreign counter")),
        ] {
            assert_damage(&firewall, tampering, damage).await;
        }
    });
}

#[test]
fn keeps_what_is_in_force_if_the_new_does_not_load() {
    in_namespace(|| async {
        let firewall = nftables();
        let good = rendering(firewall.kind());
        firewall.load(&good).await.expect("loads");
        let before = run("nft -a list ruleset").await;
        let text = good.text.replace("snat ip to 10.10.1.5", "snat ip to nowhere");
        let error = firewall.load(&Rendering { text, ..good }).await.expect_err("no address");
        assert_eq!(error.kind(), Kind::Invalid);
        assert_eq!(run("nft -a list ruleset").await, before);
    });
}

#[test]
fn unloads_its_own_and_nothing_else() {
    in_namespace(|| async {
        let firewall = nftables();
        let before = foreign_nftables().await;
        firewall.unload().await.expect("nothing to do");
        firewall.load(&rendering(firewall.kind())).await.expect("loads");
        firewall.unload().await.expect("unloads");
        assert_eq!(firewall.loaded(Depth::Elements).await.expect("readable"), None);
        assert_eq!(run("nft -a list ruleset").await, before);
    });
}

#[test]
fn somebody_else_may_be_faster_to_delete_the_table() {
    in_namespace(|| async {
        let folder = tempfile::tempdir().expect("a folder");
        let nft = folder.path().join("nft");
        script(&nft, "test \"$1\" != -f || nft delete table inet natd; exec nft \"$@\"").await;
        let rendering = rendering(nftables().kind());
        nftables().load(&rendering).await.expect("loads");
        Nftables::new(nft, DEADLINE).unload().await.expect("it is gone all the same");
        assert_eq!(run("nft list tables").await, "");
    });
}

#[test]
fn rules_are_read_without_what_sets_hold() {
    in_namespace(|| async {
        // It would read all sets, whatever it is to list.
        let folder = tempfile::tempdir().expect("a folder");
        let nft = folder.path().join("nft");
        script(&nft, "test \"$1\" != -j || exit 9; exec nft \"$@\"").await;
        let firewall = Nftables::new(nft, DEADLINE);
        let rendering = rendering(firewall.kind());
        firewall.load(&rendering).await.expect("loads");
        let loaded = firewall.loaded(Depth::Rules).await.expect("readable").expect("loaded");
        assert_eq!((loaded.digest, loaded.damage), (Some(rendering.digest), vec![]));
        let audited = firewall.loaded(Depth::Elements).await.expect("readable").expect("loaded");
        assert_ne!(audited.damage, [""; 0], "what sets hold is asked of nft");
        run("nft delete element inet natd sources '{ 10.20.0.7 }'; nft insert rule inet natd forward accept")
            .await;
        let loaded = firewall.loaded(Depth::Rules).await.expect("readable").expect("loaded");
        assert_eq!(loaded.damage, ["foreign rules in forward: 1"]);
    });
}
