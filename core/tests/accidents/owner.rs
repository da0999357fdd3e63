//! The others on the machine and in its cloud: what they change meanwhile, and what they find at the end.

use std::collections::{BTreeMap, BTreeSet};

use natd_core::{
    host::SysctlKey,
    model::{InterfaceId, NextHop, RouteKey},
    persist::{Form, HostPath, ServiceName, places},
};

use crate::world::{
    INTERFACES, SERVICES, State,
    mischief::Dice,
    random::{SYSCTLS, interface, keys, route},
};

/// What others have made of the world, beside natd.
pub struct Owner {
    /// Their files, as they would be without natd.
    files: BTreeMap<HostPath, (String, u32)>,
    /// All that they ever had there: natd may have found any of it.
    routes: BTreeMap<RouteKey, BTreeSet<Option<NextHop>>>,
    sysctls: BTreeMap<SysctlKey, BTreeSet<String>>,
    checks: BTreeMap<InterfaceId, BTreeSet<bool>>,
    services: BTreeMap<ServiceName, BTreeSet<bool>>,
}

impl Owner {
    pub fn of(before: State) -> Self {
        let hop = |key: &RouteKey| before.routes.get(key).map(|route| route.next_hop.clone());
        let service = |name: &str| {
            let name = ServiceName::new(name);
            (name.clone(), BTreeSet::from([before.services.contains(&name)]))
        };
        Self {
            routes: keys().iter().map(|key| (key.clone(), BTreeSet::from([hop(key)]))).collect(),
            services: SERVICES.iter().map(|name| service(name)).collect(),
            sysctls: before.sysctls.into_iter().map(|(key, value)| (key, [value].into())).collect(),
            checks: before.checks.into_iter().map(|(id, on)| (id, [on].into())).collect(),
            files: before.files,
        }
    }

    /// Does something.
    pub fn acts(&mut self, dice: &mut Dice, state: &mut State) {
        match dice.below(9) {
            0 if dice.once_in(2) => state.rules.clear(),
            0 => state.passages.clear(),
            1 => {
                for loaded in state.rules.values_mut() {
                    loaded.damage.push("rule 1 of 7 is missing".to_owned());
                }
            }
            2 | 3 => self.changes_a_route(dice, state),
            4 => {
                let key = SysctlKey::global(dice.pick(&SYSCTLS));
                if let Some(value) = state.sysctls.get_mut(&key) {
                    // None that natd would give it.
                    *value = (4 + dice.below(4)).to_string();
                    self.sysctls.entry(key).or_default().insert(value.clone());
                }
            }
            5 => {
                // natd switches it off.
                let (id, on) = (interface(dice.pick(&INTERFACES)), true);
                self.checks.entry(id.clone()).or_default().insert(on);
                state.checks.insert(id, on);
            }
            6 => self.changes_a_file(dice, state),
            7 => {
                // natd has it started.
                let name = ServiceName::new(dice.pick(&SERVICES));
                state.services.remove(&name);
                self.services.entry(name).or_default().insert(false);
            }
            _ if dice.once_in(2) => {
                // The link goes, and with it what the kernel has of it.
                state.sysctls.retain(|key, _| !key.path().contains("eth0"));
            }
            _ => self.brings_links_up(state),
        }
    }

    /// The kernel has its own values for a link that appears.
    pub fn brings_links_up(&mut self, state: &mut State) {
        for key in SYSCTLS.iter().map(|key| SysctlKey::global(key)) {
            let own = &mut self.sysctls;
            state.sysctls.entry(key).or_insert_with_key(|key| {
                own.entry(key.clone()).or_default().insert("9".to_owned());
                "9".to_owned()
            });
        }
    }

    fn changes_a_route(&mut self, dice: &mut Dice, state: &mut State) {
        let key = dice.pick(&keys());
        let hop = dice.pick(&[
            None,
            Some(NextHop::Interface(interface("eni-theirs"))),
            Some(NextHop::Interface(interface("eni-rival"))),
            Some(NextHop::InternetGateway("igw-1".to_owned())),
        ]);
        match &hop {
            Some(hop) => drop(state.routes.insert(key.clone(), route(&key, hop.clone()))),
            None => drop(state.routes.remove(&key)),
        }
        self.routes.entry(key).or_default().insert(hop);
    }

    /// Writes a line into a file of theirs, or spoils one of natd's.
    fn changes_a_file(&mut self, dice: &mut Dice, state: &mut State) {
        let (path, form) = dice.pick(&places());
        if form == Form::Whole {
            if let Some((content, _)) = state.files.get_mut(&path) {
                let cut = dice.below(content.len().max(1));
                match dice.below(4) {
                    0 => drop(state.files.remove(&path)),
                    1 => content.clear(),
                    // Where a line ends, nothing tells a power failure from an editor.
                    2 if content.as_bytes().get(cut.wrapping_sub(1)) != Some(&b'\n') => {
                        content.truncate(cut);
                    }
                    _ => {
                        let length = content.len();
                        content.truncate(cut);
                        content.extend(std::iter::repeat_n('\0', length.saturating_sub(cut)));
                    }
                }
            }
        } else if let Some(theirs) = self.files.get_mut(&path) {
            let line = format!("# theirs {}\n", dice.below(10));
            for (content, _) in [theirs, state.files.get_mut(&path).expect("natd left it there")] {
                if !content.is_empty() && !content.ends_with('\n') {
                    content.push('\n');
                }
                content.push_str(&line);
            }
        }
    }

    /// All is theirs again, but for what natd has said that it can't know.
    pub fn finds_all(&self, seed: u64, before: &State, after: &State, said: &str) {
        assert!(after.rules.is_empty(), "seed {seed}: rules are left");
        assert!(after.passages.is_empty(), "seed {seed}: a neighbour still lets packets through");
        let is_told = |name: &str| said.contains(name);
        for (key, theirs) in &self.routes {
            let hop = |state: &State| state.routes.get(key).map(|route| route.next_hop.clone());
            let (had, has) = (hop(before), hop(after));
            let fine = theirs.contains(&has) || is_told(&key.to_string());
            assert!(fine, "seed {seed}: {key} leads to {has:?}, and had led to {theirs:?}");
            if !is_ours(had.as_ref()) {
                assert_eq!(had, has, "seed {seed}: {key} was theirs");
            }
        }
        for (key, theirs) in &self.sysctls {
            let has = &after.sysctls[key];
            let fine = theirs.contains(has) || is_told(&format!("{key} = {has}"));
            assert!(fine, "seed {seed}: {key} is {has}, and had been {theirs:?}");
        }
        for (id, theirs) in &self.checks {
            let has = &after.checks[id];
            let fine = theirs.contains(has) || is_told(&format!("check of {id} (off)"));
            assert!(fine, "seed {seed}: the check of {id} is {has}");
        }
        for (name, theirs) in &self.services {
            let has = after.services.contains(name);
            let fine = theirs.contains(&has) || is_told(&format!("start of {name} at boot"));
            assert!(fine, "seed {seed}: {name} is started at boot: {has}");
        }
        let paths: BTreeSet<_> = self.files.keys().chain(after.files.keys()).collect();
        for path in paths {
            let (theirs, has) = (self.files.get(path), after.files.get(path));
            let content = |file: Option<&(String, u32)>| file.map(|(content, _)| content.clone());
            assert_eq!(content(has), content(theirs), "seed {seed}: {path}");
            let fine = has == theirs || is_told(&format!("run bits of {path}"));
            assert!(fine, "seed {seed}: {path} has other permissions: {has:?}, not {theirs:?}");
        }
    }
}

fn is_ours(hop: Option<&NextHop>) -> bool {
    let own = |id: &str| hop == Some(&NextHop::Interface(interface(id)));
    INTERFACES.iter().any(|id| own(id))
}
