//! Sets of ipset's with natd's many blocks. They are named by what is in them, so rules that refer
//! to one can't come to mean something else.

use std::{collections::BTreeSet, time::Duration};

use ipnet::IpNet;
use natd_core::{
    error::{Kind, Result},
    networks::Networks,
    ruleset::{ElementsDigest, IPTABLES_CHAIN_PREFIX as PREFIX},
};

use crate::process::Program;

/// The name under which a set is filled that takes the place of one of the same name.
const FRESH: &str = "NATD-FRESH";

/// By way of the program `ipset`.
#[derive(Debug)]
pub(super) struct Sets {
    ipset: Program,
}

impl Sets {
    /// The path of `ipset`, or a name that is looked for in `PATH`.
    pub(super) fn new(ipset: &'static str, deadline: Duration) -> Self {
        Self { ipset: Program::new(ipset, "ipset", deadline) }
    }

    /// Natd's own that are there.
    pub(super) async fn names(&self, doing: &str) -> Result<BTreeSet<String>> {
        let list = self.ipset.run(doing, &["list", "-name"], None).await?.success(doing)?;
        Ok(list.lines().filter(|name| name.starts_with(PREFIX)).map(str::to_owned).collect())
    }

    /// Natd's own; none where there is no ipset.
    async fn names_if_any(&self, doing: &str) -> Result<BTreeSet<String>> {
        match self.names(doing).await {
            Err(error) if matches!(error.kind(), Kind::NotFound | Kind::Invalid) => {
                Ok(BTreeSet::new())
            }
            names => names,
        }
    }

    /// Makes the sets of a rendering. One that is there already may be in use: it is filled anew
    /// and swapped, so that no packet finds it half full.
    pub(super) async fn fill(&self, doing: &str, text: Option<&str>) -> Result<()> {
        let Some(text) = text else { return Ok(()) };
        let there = self.names(doing).await?;
        let mut script = String::new();
        if there.contains(FRESH) {
            script.extend(["destroy ", FRESH, "\n"]);
        }
        let mut swap: Option<&str> = None;
        for line in text.lines() {
            if let Some(name) = line.strip_prefix("create ").and_then(|rest| rest.split(' ').next())
            {
                script += &swapped(swap);
                swap = there.contains(name).then_some(name);
            }
            match swap {
                Some(name) => script += &line.replacen(name, FRESH, 1),
                None => script += line,
            }
            script.push('\n');
        }
        script += &swapped(swap);
        self.ipset.run(doing, &["restore"], Some(&script)).await?.success(doing).map(drop)
    }

    /// Removes all of natd's own that the rendering doesn't have; no rule refers to them any more.
    pub(super) async fn keep_only(&self, doing: &str, text: Option<&str>) -> Result<()> {
        let kept: BTreeSet<&str> = text
            .unwrap_or_default()
            .lines()
            .filter_map(|line| line.strip_prefix("create ")?.split(' ').next())
            .collect();
        let there = self.names_if_any(doing).await?;
        let script: String = there
            .iter()
            .filter(|name| !kept.contains(name.as_str()))
            .flat_map(|name| ["destroy ", name, "\n"])
            .collect();
        if script.is_empty() {
            return Ok(());
        }
        self.ipset.run(doing, &["restore"], Some(&script)).await?.success(doing).map(drop)
    }

    /// Sets of natd's own that don't hold what their names say.
    pub(super) async fn damage(&self, doing: &str) -> Result<Vec<String>> {
        let mut damage = Vec::new();
        for name in self.names_if_any(doing).await? {
            let saved = self.ipset.run(doing, &["save", &name], None).await?.success(doing)?;
            let digest = ElementsDigest::of_nets(&elements(&saved).iter().collect::<Vec<IpNet>>());
            if !name.ends_with(&format!("-{digest}")) {
                damage.push(format!("set {name} has other elements"));
            }
        }
        Ok(damage)
    }
}

/// What ends the filling of a set that was there already.
fn swapped(name: Option<&str>) -> String {
    name.map_or_else(String::new, |name| format!("swap {FRESH} {name}\ndestroy {FRESH}\n"))
}

/// What `ipset save` prints of one set.
pub(super) fn elements(saved: &str) -> Networks {
    let element = |line: &str| {
        let text = line.strip_prefix("add ")?.split(' ').nth(1)?.to_owned();
        let whole = || Some(IpNet::from(text.parse::<std::net::IpAddr>().ok()?));
        text.parse().ok().or_else(whole)
    };
    saved.lines().filter_map(element).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn elements_are_read_whole() {
        let saved = "create NATD-SRC4-1 hash:net family inet hashsize 1024 maxelem 65536
add NATD-SRC4-1 10.1.0.0/16
add NATD-SRC4-1 192.0.2.7
";
        let nets: Vec<String> = elements(saved).iter().map(|net| net.to_string()).collect();
        assert_eq!(nets, ["10.1.0.0/16", "192.0.2.7/32"]);
    }
}
