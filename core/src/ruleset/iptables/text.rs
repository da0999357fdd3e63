//! Chains and rules as values, and as text that `iptables-restore --noflush` takes.
//!
//! No built-in chain is declared in it, so that no policy is set and nobody's rules are flushed.
//! Options stand in the order in which `iptables-save` prints them.

/// A chain.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Chain {
    BuiltIn(&'static str),
    /// One of natd's own, by what it is for.
    Own(String),
}

impl Chain {
    pub(super) fn own(purpose: impl Into<String>) -> Self {
        Self::Own(purpose.into())
    }

    fn name(&self, prefix: &str, suffix: &str) -> String {
        match self {
            Self::BuiltIn(name) => (*name).to_owned(),
            Self::Own(purpose) => format!("{prefix}{purpose}{suffix}"),
        }
    }
}

/// Where a packet goes from a rule.
#[derive(Debug, Clone)]
pub(super) enum Target {
    /// Into that chain and, after its end, on with the next rule.
    Jump(Chain),
    /// Into that chain for good: its end is the end of this one, too.
    Goto(Chain),
    /// An action, or `RETURN`.
    Action(String),
}

impl Target {
    pub(super) fn act(action: impl Into<String>) -> Self {
        Self::Action(action.into())
    }

    pub(super) fn back() -> Self {
        Self::act("RETURN")
    }

    pub(super) fn drop() -> Self {
        Self::act("DROP")
    }
}

/// A rule.
#[derive(Debug, Clone)]
pub(super) struct Rule {
    pub chain: Chain,
    /// With a blank before each option.
    pub matches: String,
    pub target: Target,
}

impl Rule {
    pub(super) fn new(chain: &Chain, matches: impl Into<String>, target: Target) -> Self {
        Self { chain: chain.clone(), matches: matches.into(), target }
    }
}

/// natd's part of a table.
#[derive(Debug, Default)]
pub(super) struct Table {
    pub name: &'static str,
    pub rules: Vec<Rule>,
}

impl Table {
    pub(super) fn named(name: &'static str) -> Self {
        Self { name, rules: Vec::new() }
    }

    pub(super) fn add(&mut self, chain: &Chain, matches: impl Into<String>, target: Target) {
        self.rules.push(Rule::new(chain, matches, target));
    }

    /// The chains of natd's own that it has, each once, in the order of their first mention.
    fn chains(&self) -> Vec<&Chain> {
        let mut seen = std::collections::BTreeSet::new();
        let targets = self.rules.iter().filter_map(|rule| match &rule.target {
            Target::Jump(chain) | Target::Goto(chain) => Some(chain),
            Target::Action(_) => None,
        });
        let all = self.rules.iter().map(|rule| &rule.chain).chain(targets);
        all.filter(|chain| matches!(chain, Chain::Own(name) if seen.insert(name))).collect()
    }
}

/// The text, with chains of natd's own named `PREFIX…SUFFIX`. `comment` gives each rule, counted from 1, what it says of itself.
pub(super) fn text(
    tables: &[Table],
    prefix: &str,
    suffix: &str,
    mut comment: impl FnMut(usize) -> String,
) -> String {
    let mut indices = 1..;
    let mut lines = Vec::new();
    for table in tables {
        lines.push(format!("*{}\n", table.name));
        lines.extend(
            table.chains().iter().map(|chain| format!(":{} - [0:0]\n", chain.name(prefix, suffix))),
        );
        for (rule, index) in table.rules.iter().zip(&mut indices) {
            let Rule { chain, matches, target } = rule;
            let chain = chain.name(prefix, suffix);
            let target = match target {
                Target::Jump(chain) => format!("-j {}", chain.name(prefix, suffix)),
                Target::Goto(chain) => format!("-g {}", chain.name(prefix, suffix)),
                Target::Action(action) => format!("-j {action}"),
            };
            lines.push(format!("-A {chain}{matches}{} {target}\n", comment(index)));
        }
        lines.push("COMMIT\n".to_owned());
    }
    lines.concat()
}
