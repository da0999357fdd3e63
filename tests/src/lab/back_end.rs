//! The three forms in which natd's rules can be in a kernel, and what is there of each.

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

use super::natd::Nat;

/// What holds natd's rules.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum BackEnd {
    Nftables,
    /// The `iptables` that writes to nftables.
    IptablesNft,
    /// The `iptables` of old.
    IptablesLegacy,
}

/// The same tests over each back end: each is a function of a [`BackEnd`].
#[macro_export]
macro_rules! on_every_back_end {
    ($($test:ident),+ $(,)?) => {
        $crate::on_every_back_end!(@ nftables Nftables: $($test)+);
        $crate::on_every_back_end!(@ iptables_nft IptablesNft: $($test)+);
        $crate::on_every_back_end!(@ iptables_legacy IptablesLegacy: $($test)+);
    };
    (@ $form:ident $variant:ident: $($test:ident)+) => {
        mod $form {
            $(
                #[test]
                fn $test() -> anyhow::Result<()> {
                    super::$test($crate::lab::back_end::BackEnd::$variant)
                }
            )+
        }
    };
}

impl BackEnd {
    const ALL: [Self; 3] = [Self::Nftables, Self::IptablesNft, Self::IptablesLegacy];

    /// The value of `nat.firewall`.
    pub fn setting(self) -> &'static str {
        match self {
            Self::Nftables => "nftables",
            Self::IptablesNft | Self::IptablesLegacy => "iptables",
        }
    }

    /// The tables that it is to have in the kernel once natd's rules are in it.
    pub fn tables(self) -> BTreeSet<String> {
        let tables: &[&str] = match self {
            Self::Nftables => &["nftables inet natd"],
            Self::IptablesNft => &["nftables ip filter", "nftables ip nat"],
            Self::IptablesLegacy => &["legacy filter", "legacy nat"],
        };
        tables.iter().map(ToString::to_string).collect()
    }

    /// The program that is both `iptables` and its siblings in this form.
    fn program(self) -> &'static str {
        match self {
            Self::Nftables | Self::IptablesNft => "/usr/sbin/xtables-nft-multi",
            Self::IptablesLegacy => "/usr/sbin/xtables-legacy-multi",
        }
    }

    /// Makes a folder in which the name `iptables` means this form.
    pub fn programs(self, folder: &Path) -> Result<PathBuf> {
        let bin = folder.join("bin");
        fs::create_dir_all(&bin).with_context(|| format!("making {}", bin.display()))?;
        for family in ["iptables", "ip6tables"] {
            for name in ["", "-save", "-restore"].map(|verb| format!("{family}{verb}")) {
                let link = bin.join(&name);
                symlink(self.program(), link).with_context(|| format!("linking {name}"))?;
            }
        }
        Ok(bin)
    }
}

/// What is in the instance's kernel.
impl Nat {
    /// All tables with a rule in them, by form: `nftables inet natd`, `legacy nat`.
    pub fn tables(&self) -> Result<BTreeSet<String>> {
        let nftables = self.exec(["nft", "list", "tables"])?;
        let nftables = nftables.lines().map(|line| line.replacen("table", "nftables", 1));
        let legacy = self.saved(BackEnd::IptablesLegacy)?;
        let mut tables: BTreeSet<String> = nftables.collect();
        let mut section = "";
        for line in legacy.lines() {
            match line.strip_prefix('*') {
                Some(table) => section = table,
                None if line.starts_with("-A") => drop(tables.insert(format!("legacy {section}"))),
                None => {}
            }
        }
        Ok(tables)
    }

    /// The forms that natd's rules are in.
    pub fn back_ends(&self) -> Result<BTreeSet<BackEnd>> {
        let mut found = BTreeSet::new();
        for form in BackEnd::ALL {
            let natds = match form {
                BackEnd::Nftables => self
                    .exec(["nft", "list", "tables"])?
                    .lines()
                    .any(|line| line == "table inet natd"),
                _ => self.saved(form)?.contains("natd:"),
            };
            if natds {
                found.insert(form);
            }
        }
        Ok(found)
    }

    /// All rules, and which individuals they are: a rule that is made anew has another handle in nftables, and in legacy
    /// tables it has counted nothing yet, so let it count something first. How much is of no interest: natd's own canary
    /// counts too.
    pub fn individual_rules(&self) -> Result<String> {
        let nftables = self.exec(["nft", "-s", "-a", "list", "ruleset"])?;
        let legacy = self.exec([BackEnd::IptablesLegacy.program(), "iptables-save", "-c"])?;
        // Only natd's translation: the host's own packets, which come by all the time, don't count there.
        let legacy = legacy
            .lines()
            .filter(|line| line.contains("-j SNAT") || line.contains("-j MASQUERADE"))
            .map(|line| match line.split_once("] ") {
                Some((count, rule)) if count != "[0:0" => format!("[counted] {rule}"),
                _ => line.to_owned(),
            });
        Ok(nftables + &legacy.collect::<Vec<_>>().join("\n"))
    }

    /// Empties natd's own table or chains, and nothing else.
    pub fn flush_natds_rules(&self, form: BackEnd) -> Result<()> {
        if form == BackEnd::Nftables {
            return self.exec(["nft", "flush", "table", "inet", "natd"]).map(drop);
        }
        let saved = self.saved(form)?;
        let mut table = "";
        for line in saved.lines() {
            if let Some(section) = line.strip_prefix('*') {
                table = section;
            }
            if let Some(chain) = line.strip_prefix(":NATD-") {
                let name = chain.split_whitespace().next().unwrap_or_default();
                let chain = format!("NATD-{name}");
                self.exec([form.program(), "iptables", "-t", table, "-F", &chain])?;
            }
        }
        Ok(())
    }

    /// Removes every rule of everybody.
    pub fn flush_all_rules(&self) -> Result<()> {
        self.exec(["nft", "flush", "ruleset"])?;
        for table in ["filter", "nat"] {
            for flag in ["-F", "-X"] {
                let legacy = BackEnd::IptablesLegacy.program();
                self.exec([legacy, "iptables", "-t", table, flag])?;
            }
        }
        Ok(())
    }

    fn saved(&self, form: BackEnd) -> Result<String> {
        self.exec([form.program(), "iptables-save"])
    }
}
