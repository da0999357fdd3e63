//! What ufw is to let through, as its own route rules. Pure.
//!
//! `ufw route allow` adds a rule behind those that are there, in the kernel and in ufw's files; answers pass
//! ufw by themselves. ufw tells rules apart by what they match and by nothing else: the same match with
//! another action or another comment *changes* the rule that is there, whosever it is (tried with ufw
//! 0.36.2). So natd looks at all of them before it adds one.

use std::{fmt, net::IpAddr};

use super::Passage;
use crate::ruleset::{Mark, Ports};

/// More than so many rules are not added one by one: each takes ufw about a third of a second.
pub const MOST: usize = 64;

/// What a route rule of ufw matches, in the words and the order in which `ufw show added` prints it:
/// `in on eth1 out on eth0 from 10.10.2.0/24`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Match(String);

impl Match {
    /// One argument of `ufw route allow` a word.
    pub fn words(&self) -> impl Iterator<Item = &str> {
        self.0.split(' ')
    }

    /// The same from wherever; `None` if it is that already.
    #[must_use]
    pub fn from_anywhere(&self) -> Option<Self> {
        let (before, from) = self.0.split_once(" from ")?;
        let (_, to) = from.split_once(' ').unwrap_or((from, ""));
        Some(Self(format!("{before} {to}").trim_end().to_owned()))
    }

    /// Whether it is about IPv6; `None`: about both families.
    #[must_use]
    pub fn is_ipv6(&self) -> Option<bool> {
        let address = self.words().skip_while(|word| !["from", "to"].contains(word)).nth(1)?;
        Some(address.contains(':'))
    }
}

impl fmt::Display for Match {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0)
    }
}

/// What ufw is to let through, each once: from each entrance to the egress interface by source, and what
/// goes to a forwarded port by each interface. ufw can't match what was redirected, so that is by address
/// and port.
#[must_use]
pub fn matches(passage: &Passage) -> Vec<Match> {
    let Passage { egress, interfaces, entrances, sources, forwards, .. } = passage;
    let out = entrances.iter().flat_map(|by| {
        sources.iter().map(move |source| {
            let way = format!("in on {by} out on {egress}");
            match source.prefix_len() {
                0 => way,
                length if length == source.max_prefix_len() => {
                    format!("{way} from {}", source.addr())
                }
                _ => format!("{way} from {source}"),
            }
        })
    });
    let inward = forwards.iter().flat_map(|opening| {
        interfaces.iter().map(move |by| {
            let ports = ufw_ports(opening.ports);
            format!("in on {by} to {} port {ports} proto {}", opening.to, opening.protocol)
        })
    });
    let mut all: Vec<Match> = Vec::new();
    for text in out.chain(inward).map(Match) {
        if !all.contains(&text) {
            all.push(text);
        }
    }
    all
}

fn ufw_ports(ports: Ports) -> String {
    if ports.is_range() {
        format!("{}:{}", ports.first(), ports.last())
    } else {
        ports.first().to_string()
    }
}

/// What has ufw let natd's traffic through, for somebody to type.
#[must_use]
pub fn commands(passage: &Passage) -> Vec<String> {
    matches(passage).into_iter().map(|text| format!("ufw route allow {text}")).collect()
}

/// A route rule that ufw has.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RouteRule {
    /// `allow`, `deny`, `reject` or `limit`.
    pub action: String,
    /// What it matches, whether or not it logs.
    pub matches: Match,
    /// Its comment.
    pub comment: Option<String>,
}

impl RouteRule {
    /// natd's mark, if it is natd's.
    #[must_use]
    pub fn mark(&self) -> Option<Mark> {
        self.comment.as_ref()?.parse().ok().filter(|_| self.action == "allow")
    }
}

/// The line that `ufw show added` prints of it.
impl fmt::Display for RouteRule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ufw route {} {}", self.action, self.matches)?;
        self.comment.as_ref().map_or(Ok(()), |comment| write!(f, " comment '{comment}'"))
    }
}

/// The route rules in what `ufw show added` prints.
#[must_use]
pub fn parse(text: &str) -> Vec<RouteRule> {
    text.lines().filter_map(route_rule).collect()
}

fn route_rule(line: &str) -> Option<RouteRule> {
    let rule = line.trim().strip_prefix("ufw route ")?;
    // ufw takes no quote into a comment.
    let (rule, comment) = match rule.split_once(" comment '") {
        Some((rule, comment)) => (rule, Some(comment.strip_suffix('\'')?.to_owned())),
        None => (rule, None),
    };
    let (action, matches) = rule.split_once(' ').unwrap_or((rule, ""));
    let words = matches.split(' ').filter(|word| !["log", "log-all"].contains(word));
    let matches = Match(words.collect::<Vec<_>>().join(" "));
    Some(RouteRule { action: action.to_owned(), matches, comment })
}

/// Where a match that natd needs stands among ufw's rules.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Standing<'a> {
    /// ufw has no such rule.
    Absent,
    /// natd has added it.
    Own(Mark),
    /// Somebody else lets that through.
    Granted,
    /// Somebody else has a rule of that match that lets it through in part, or not at all: natd's would
    /// take its place.
    Taken(&'a RouteRule),
}

/// Where it stands.
#[must_use]
pub fn standing<'a>(wanted: &Match, rules: &'a [RouteRule]) -> Standing<'a> {
    let has = |matches: &Match| rules.iter().find(|rule| rule.matches == *matches);
    let grants = |rule: &&RouteRule| rule.action == "allow" && rule.mark().is_none();
    if let Some(rule) = has(wanted) {
        return match rule.mark() {
            Some(mark) => Standing::Own(mark),
            None if grants(&rule) => Standing::Granted,
            None => Standing::Taken(rule),
        };
    }
    match wanted.from_anywhere().and_then(|wider| has(&wider)).filter(grants) {
        Some(_) => Standing::Granted,
        None => Standing::Absent,
    }
}

/// The kernel's rules that a match comes to, as `iptables -S` prints them, without the words that only
/// name what reads the rest.
#[must_use]
pub fn in_kernel(matches: &Match, chain: &str) -> Vec<String> {
    let mut words = vec!["-A".to_owned(), chain.to_owned(), "-j".to_owned(), "ACCEPT".to_owned()];
    let mut rest = matches.words();
    while let Some(word) = rest.next() {
        let option = match word {
            "in" => "-i",
            "out" => "-o",
            "from" => "-s",
            "to" => "-d",
            "proto" => "-p",
            "port" => "--dport",
            _ => continue,
        };
        let value = rest.by_ref().find(|word| *word != "on").unwrap_or_default();
        let value = match value.parse::<IpAddr>() {
            Ok(IpAddr::V4(address)) => format!("{address}/32"),
            Ok(IpAddr::V6(address)) => format!("{address}/128"),
            Err(_) => value.to_owned(),
        };
        let option = if option == "--dport" && value.contains(':') { "--dports" } else { option };
        words.extend([option.to_owned(), value]);
    }
    normal(words)
}

/// The rules that `iptables -S` has printed, in the form of [`in_kernel`].
#[must_use]
pub fn kernel_rules(text: &str) -> Vec<Vec<String>> {
    let rules = text.lines().filter(|line| line.starts_with("-A "));
    rules.map(|line| normal(line.split(' ').map(str::to_owned).collect())).collect()
}

/// Options in order, each with its value, and no `-m`.
fn normal(words: Vec<String>) -> Vec<String> {
    let mut words = words.into_iter();
    let mut options: Vec<(String, String)> = Vec::new();
    while let Some(option) = words.next() {
        let value = words.next().unwrap_or_default();
        if option != "-m" {
            options.push((option, value));
        }
    }
    options.sort_unstable();
    options.into_iter().flat_map(|(option, value)| [option, value]).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        neighbours::Opening,
        ruleset::{Protocol, tests::nets},
    };

    fn passage() -> Passage {
        let [eth0, eth1] = ["eth0", "eth1"].map(|name| name.parse().expect("a name"));
        let to = "10.10.2.101".parse().expect("an address");
        let opening =
            |protocol, ports: &str| Opening { protocol, to, ports: ports.parse().expect("ports") };
        Passage {
            egress: eth0,
            interfaces: ["eth0", "eth1"].map(|name| name.parse().expect("a name")).into(),
            entrances: [eth1].into(),
            sources: nets(&["10.10.2.0/24", "192.0.0.8/32", "fd00:10:2::/64"]),
            forwards: vec![opening(Protocol::Tcp, "443"), opening(Protocol::Udp, "8000-8010")],
            clamp_mss: false,
        }
    }

    /// As ufw 0.36.2 prints what was added by these commands.
    const ADDED: &str = "Added user rules (see 'ufw status' for running firewall):
ufw route deny from 10.10.2.200
ufw allow 22/tcp
ufw route allow in on eth1 out on eth2 log from 10.3.0.0/16
ufw route allow in on eth1 out on eth2 log-all to 10.3.0.1 port 8000:8010 proto udp
ufw route allow in on eth1 out on eth0 from 10.10.2.0/24 comment 'natd:0123456789abcdef:1/7'
ufw route deny in on eth1 out on eth0 from 192.0.0.8 comment 'it's not natd's'
ufw route allow in on eth0 to 10.10.2.101 port 443 proto tcp comment 'natd'
ufw route allow in on eth0 to 10.10.2.101 port 8000:8010 proto udp comment 'natd:0123456789abcdef:5/7'
";

    #[test]
    fn each_source_and_each_forwarded_port_is_a_rule() {
        let texts: Vec<String> = commands(&passage());
        assert_eq!(
            texts,
            [
                "ufw route allow in on eth1 out on eth0 from 10.10.2.0/24",
                "ufw route allow in on eth1 out on eth0 from 192.0.0.8",
                "ufw route allow in on eth1 out on eth0 from fd00:10:2::/64",
                "ufw route allow in on eth0 to 10.10.2.101 port 443 proto tcp",
                "ufw route allow in on eth1 to 10.10.2.101 port 443 proto tcp",
                "ufw route allow in on eth0 to 10.10.2.101 port 8000:8010 proto udp",
                "ufw route allow in on eth1 to 10.10.2.101 port 8000:8010 proto udp",
            ]
        );
        let everything = Passage { sources: nets(&["0.0.0.0/0", "::/0"]), ..passage() };
        assert_eq!(matches(&everything)[0].to_string(), "in on eth1 out on eth0");
        assert_eq!(matches(&everything).len(), 5);
    }

    #[test]
    fn what_ufw_prints_reads_back() {
        let rules = parse(ADDED);
        assert_eq!(rules.len(), 7);
        assert_eq!(rules[0].matches.to_string(), "from 10.10.2.200");
        assert_eq!(rules[1].matches.to_string(), "in on eth1 out on eth2 from 10.3.0.0/16");
        assert_eq!(
            rules[2].matches.to_string(),
            "in on eth1 out on eth2 to 10.3.0.1 port 8000:8010 proto udp"
        );
        assert_eq!(rules[3].mark().expect("natd's").index, 1);
        assert_eq!((rules[4].action.as_str(), rules[4].mark()), ("deny", None));
        assert_eq!(rules[5].mark(), None);
        assert_eq!(rules[6].to_string(), ADDED.lines().nth(8).expect("a line"));
    }

    #[test]
    fn others_rules_are_neither_changed_nor_doubled() {
        let rules = parse(ADDED);
        let found: Vec<Standing<'_>> =
            matches(&passage()).iter().map(|wanted| standing(wanted, &rules)).collect();
        assert!(matches!(found[0], Standing::Own(_)), "{found:?}");
        assert_eq!(found[1], Standing::Taken(&rules[4]));
        assert_eq!(found[2], Standing::Absent);
        assert_eq!(found[3], Standing::Granted);
        assert_eq!(found[4], Standing::Absent);
        assert!(matches!(found[5], Standing::Own(_)), "{found:?}");

        let wide = parse("ufw route allow in on eth1 out on eth0\n");
        let found: Vec<Standing<'_>> =
            matches(&passage()).iter().map(|wanted| standing(wanted, &wide)).collect();
        assert_eq!(found[..3], [Standing::Granted, Standing::Granted, Standing::Granted]);
        assert_eq!(found[3], Standing::Absent);
        let no = parse("ufw route reject in on eth1 out on eth0\n");
        assert_eq!(standing(&matches(&passage())[0], &no), Standing::Absent);
    }

    #[test]
    fn the_kernel_has_them_in_its_own_words() {
        let kernel = kernel_rules(
            "-N ufw-user-forward
-A ufw-user-forward -s 10.10.2.200/32 -j DROP
-A ufw-user-forward -s 10.10.2.0/24 -i eth1 -o eth0 -j ACCEPT
-A ufw-user-forward -s 192.0.0.8/32 -i eth1 -o eth0 -j ACCEPT
-A ufw-user-forward -d 10.10.2.101/32 -i eth0 -p tcp -m tcp --dport 443 -j ACCEPT
-A ufw-user-forward -d 10.10.2.101/32 -i eth0 -p udp -m multiport --dports 8000:8010 -j ACCEPT
",
        );
        let wanted = matches(&passage());
        let is_there =
            |index: usize| kernel.contains(&in_kernel(&wanted[index], "ufw-user-forward"));
        let found: Vec<bool> = (0..wanted.len()).map(is_there).collect();
        assert_eq!(found, [true, true, false, true, false, true, false]);
        assert_eq!(
            (wanted[2].is_ipv6(), wanted[3].is_ipv6()),
            (Some(true), Some(false)),
            "{wanted:?}"
        );
    }
}
