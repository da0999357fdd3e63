//! Whose rule it was that dropped the canary.

use std::{collections::BTreeSet, fs, time::Duration};

use natd_core::canary::{Rule, legacy::suspects, neighbour};

use crate::process::Program;

const DEADLINE: Duration = Duration::from_secs(5);

/// The tables of iptables-legacy that there are; the file is there once its module is loaded.
const LEGACY_TABLES: &str = "/proc/net/ip_tables_names";

/// Adds to a rule what `nft` prints of it, and whose it seems to be. Without `nft` that stays unknown.
pub(super) async fn name(rule: &mut Rule) {
    let nft = Program::new("nft", "nftables", DEADLINE);
    let doing = "list a table";
    // Without what sets hold, which may be much.
    let args = ["-t", "-a", "list", "table", &rule.family, &rule.table];
    let listed = nft.run(doing, &args, None).await.and_then(|output| output.success(doing));
    let listed = listed.unwrap_or_default();
    let chains = listed.lines().filter_map(|line| {
        let name = line.trim_start().strip_prefix("chain ")?;
        Some(name.split(' ').next()?.to_owned())
    });
    let chains: BTreeSet<String> = chains.collect();
    rule.owner = neighbour(&rule.family, &rule.table, &rule.chain, &chains);
    rule.text = rule.handle.and_then(|handle| {
        let mark = format!(" # handle {handle}");
        // Chains have handles of their own.
        let is_rule =
            |line: &&str| line.ends_with(&mark) && !line.contains('{') | line.contains('}');
        let line = listed.lines().find(is_rule)?;
        Some(line.trim().strip_suffix(&mark)?.to_owned())
    });
}

/// The rules of iptables-legacy that drop, and have met as many packets as `send` sends.
pub(super) async fn counted(packets: u64, send: impl FnOnce()) -> Vec<String> {
    let has_tables = fs::read_to_string(LEGACY_TABLES).is_ok_and(|tables| !tables.is_empty());
    if !has_tables {
        return Vec::new();
    }
    let Some(before) = saved().await else { return Vec::new() };
    send();
    let Some(after) = saved().await else { return Vec::new() };
    suspects(&before, &after, packets)
}

async fn saved() -> Option<String> {
    let doing = "read the rules of iptables-legacy";
    for program in ["iptables-legacy-save", "iptables-save"] {
        let program = Program::new(program, "iptables", DEADLINE);
        if let Ok(output) = program.run(doing, &["-c"], None).await
            && let Ok(text) = output.success(doing)
        {
            return Some(text);
        }
    }
    None
}
