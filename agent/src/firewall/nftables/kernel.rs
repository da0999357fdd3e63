//! What is in the kernel's tables of the family inet, all but what sets hold, by nfnetlink
//! (`include/uapi/linux/netfilter/nf_tables.h`).
//!
//! Not by `nft`: whatever it is to list, most of its versions read every set of every table first, with
//! or without `--terse` (1.0.6, Debian 12), and 60,000 rules of a neighbour's as well.

use std::{io, time::Duration};

use natd_core::error::{Error, Kind, Result};
use netlink_packet_core::{
    NLA_HEADER_SIZE, NLM_F_DUMP, NLM_F_REQUEST, NetlinkBuffer, NlasIterator,
};
use netlink_sys::protocols::NETLINK_NETFILTER;
use rustix::io::Errno;

use crate::netlink::{self, Dump};

const NFNL_SUBSYS_NFTABLES: u16 = 10;
const NFPROTO_UNSPEC: u8 = 0;
const NFPROTO_INET: u8 = 1;

const NFT_MSG_GETTABLE: u16 = 1;
const NFT_MSG_GETCHAIN: u16 = 4;
const NFT_MSG_GETRULE: u16 = 7;
const NFT_MSG_GETSET: u16 = 10;
const NFT_MSG_GETOBJ: u16 = 19;
const NFT_MSG_GETFLOWTABLE: u16 = 23;

/// `NFTA_TABLE_NAME`; and the name of the table that it is in, in the attributes of all other objects.
const TABLE: u16 = 1;
const NFTA_TABLE_FLAGS: u16 = 2;
const NFTA_CHAIN_NAME: u16 = 3;
const NFTA_CHAIN_HOOK: u16 = 4;
const NFTA_CHAIN_POLICY: u16 = 5;
const NFTA_CHAIN_TYPE: u16 = 7;
const NFTA_HOOK_HOOKNUM: u16 = 1;
const NFTA_HOOK_PRIORITY: u16 = 2;
const NFTA_RULE_CHAIN: u16 = 2;
const NFTA_RULE_HANDLE: u16 = 3;
const NFTA_RULE_EXPRESSIONS: u16 = 4;
const NFTA_RULE_USERDATA: u16 = 7;
const NFTA_EXPR_NAME: u16 = 1;
const NFTA_EXPR_DATA: u16 = 2;
const NFTA_IMMEDIATE_DATA: u16 = 2;
const NFTA_DATA_VERDICT: u16 = 2;
const NFTA_VERDICT_CODE: u16 = 1;
const NFTA_TARGET_NAME: u16 = 1;
const NFTA_MATCH_NAME: u16 = 1;
const NFTA_MATCH_INFO: u16 = 3;
const NFTA_SET_NAME: u16 = 2;
const NFTA_SET_FLAGS: u16 = 3;
const NFTA_OBJ_TYPE: u16 = 3;

/// Of a rule's own, such as `{ 22, 80 }` in it.
const NFT_SET_ANONYMOUS: u32 = 0x1;
const NFT_SET_MAP: u32 = 0x8;
const NF_DROP: u32 = 0;
const NF_ACCEPT: u32 = 1;

/// Among a rule's user data, its comment (libnftnl's `udata.h`).
const NFTNL_UDATA_RULE_COMMENT: u8 = 0;

/// One table.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Table {
    /// Dormant, or another program's own.
    pub is_flagged: bool,
    pub chains: Vec<Chain>,
    pub rules: Vec<Rule>,
    /// The names of sets.
    pub sets: Vec<String>,
    /// The kinds of all other objects: maps, counters, flowtables …
    pub others: Vec<&'static str>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Chain {
    pub name: String,
    /// `None` if packets come by jumps only.
    pub base: Option<Base>,
}

/// How packets come by a chain.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Base {
    pub kind: String,
    pub hook: &'static str,
    pub priority: i64,
    pub accepts: bool,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Rule {
    pub chain: String,
    pub comment: Option<String>,
}

/// The names of all tables, of every family, as `nft` names those.
///
/// # Errors
/// As for [`read`].
pub(super) async fn tables(doing: &str, within: Duration) -> Result<Vec<(&'static str, String)>> {
    let table = |object: Object| Some((family(object.family), text(&object.attributes, TABLE)?));
    let all = all(NFT_MSG_GETTABLE, doing, within).await?;
    Ok(all.into_iter().filter_map(table).collect())
}

/// All chains of all tables, each with the family and the name of its table.
///
/// # Errors
/// As for [`read`].
pub(crate) async fn chains(
    doing: &str,
    within: Duration,
) -> Result<Vec<(&'static str, String, Chain)>> {
    let of = |Object { family: number, attributes }: Object| {
        Some((family(number), text(&attributes, TABLE)?, chain(&attributes)?))
    };
    let all = all(NFT_MSG_GETCHAIN, doing, within).await?;
    Ok(all.into_iter().filter_map(of).collect())
}

/// One rule of a chain, as far as it tells whether the chain lets anything through.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Verdict {
    pub handle: u64,
    pub comment: Option<String>,
    /// It drops or rejects whatever comes to it.
    pub drops_all: bool,
}

/// The rules of one chain, in order.
///
/// # Errors
/// As for [`read`].
pub(crate) async fn rules(
    doing: &str,
    family: &str,
    table: &str,
    chain: &str,
    within: Duration,
) -> Result<Vec<Verdict>> {
    let named = |kind, name: &str| attribute(kind, &[name.as_bytes(), b"\0"].concat());
    let filter = [named(TABLE, table), named(NFTA_RULE_CHAIN, chain)].concat();
    let number = match family {
        "inet" => NFPROTO_INET,
        "ip" => 2,
        _ => 10,
    };
    let all = in_time(doing, within, async {
        loop {
            match dump(NFT_MSG_GETRULE, number, &filter).await {
                Err(error) if netlink::is_torn(&error) => tokio::time::sleep(netlink::PAUSE).await,
                outcome => return outcome,
            }
        }
    });
    let is_of = |attributes: &[u8]| {
        text(attributes, TABLE).as_deref() == Some(table)
            && text(attributes, NFTA_RULE_CHAIN).as_deref() == Some(chain)
    };
    // Old kernels leave out nothing.
    let mut all = all.await?;
    all.retain(|object| is_of(&object.attributes));
    Ok(all.iter().filter_map(|object| verdict(&object.attributes)).collect())
}

fn verdict(attributes: &[u8]) -> Option<Verdict> {
    let handle = find(attributes, NFTA_RULE_HANDLE)?;
    let expressions = find(attributes, NFTA_RULE_EXPRESSIONS).unwrap_or_default();
    let expressions: Vec<&[u8]> = NlasIterator::new(expressions)
        .flatten()
        .filter_map(|expression| {
            let length = usize::from(expression.length());
            expression.into_inner().get(NLA_HEADER_SIZE..length)
        })
        .collect();
    let passes = |expression: &&[u8]| {
        let name = text(expression, NFTA_EXPR_NAME);
        name.is_some_and(|name| ["counter", "log"].contains(&name.as_str()))
    };
    let is_last = |expression: &&[u8]| {
        let data = find(expression, NFTA_EXPR_DATA).unwrap_or_default();
        match text(expression, NFTA_EXPR_NAME).as_deref() {
            Some("reject") => true,
            Some("immediate") => {
                let verdict = find(data, NFTA_IMMEDIATE_DATA)
                    .and_then(|data| find(data, NFTA_DATA_VERDICT))
                    .and_then(|verdict| self::number(verdict, NFTA_VERDICT_CODE));
                verdict == Some(NF_DROP)
            }
            Some("target") => text(data, NFTA_TARGET_NAME).as_deref() == Some("REJECT"),
            _ => false,
        }
    };
    let drops_all = expressions
        .split_last()
        .is_some_and(|(last, before)| is_last(last) && before.iter().all(passes));
    Some(Verdict {
        handle: u64::from_be_bytes(handle.try_into().ok()?),
        comment: find(attributes, NFTA_RULE_USERDATA)
            .and_then(comment)
            .or_else(|| expressions.iter().find_map(|expression| of_iptables(expression))),
        drops_all,
    })
}

/// The comment that iptables gives a rule: a match of its own (`struct xt_comment_info`).
fn of_iptables(expression: &[u8]) -> Option<String> {
    let data = find(expression, NFTA_EXPR_DATA)?;
    let is_comment = text(data, NFTA_MATCH_NAME)? == "comment";
    if is_comment { text(data, NFTA_MATCH_INFO) } else { None }
}

fn family(number: u8) -> &'static str {
    match number {
        NFPROTO_INET => "inet",
        2 => "ip",
        3 => "arp",
        5 => "netdev",
        7 => "bridge",
        10 => "ip6",
        _ => "other",
    }
}

async fn all(message: u16, doing: &str, within: Duration) -> Result<Vec<Object>> {
    let all = in_time(doing, within, async {
        loop {
            match dump(message, NFPROTO_UNSPEC, &[]).await {
                Err(error) if netlink::is_torn(&error) => tokio::time::sleep(netlink::PAUSE).await,
                outcome => return outcome,
            }
        }
    });
    all.await
}

/// The table of that name of the family inet; `None` if there is none.
///
/// # Errors
/// `Denied` without the capability; `NotFound` if the kernel has no nftables; `Unreachable` if it doesn't
/// answer in time.
pub(super) async fn read(doing: &str, name: &str, within: Duration) -> Result<Option<Table>> {
    let table = in_time(doing, within, async {
        loop {
            match table(name).await {
                Err(error) if netlink::is_torn(&error) => tokio::time::sleep(netlink::PAUSE).await,
                outcome => return outcome,
            }
        }
    });
    table.await
}

async fn table(name: &str) -> io::Result<Option<Table>> {
    // The kernel leaves out what is of other tables, except among chains; old kernels do nowhere.
    let of_table = attribute(TABLE, &[name.as_bytes(), b"\0"].concat());
    let list = async |message, filter| {
        let mut objects = dump(message, NFPROTO_INET, filter).await?;
        objects.retain(|object| text(&object.attributes, TABLE).is_some_and(|table| table == name));
        io::Result::Ok(objects.into_iter().map(|object| object.attributes).collect::<Vec<_>>())
    };
    let Some(details) = list(NFT_MSG_GETTABLE, &[]).await?.pop() else { return Ok(None) };
    let chains = list(NFT_MSG_GETCHAIN, &[]).await?;
    let rules = list(NFT_MSG_GETRULE, of_table.as_slice()).await?;
    let sets = list(NFT_MSG_GETSET, of_table.as_slice()).await?;
    let objects = list(NFT_MSG_GETOBJ, of_table.as_slice()).await?;
    let flowtables = list(NFT_MSG_GETFLOWTABLE, of_table.as_slice()).await?;

    Ok(Some(Lists { details, chains, rules, sets, objects, flowtables }.table()))
}

/// What a table is made of, each object by its attributes, as the kernel lists them.
#[derive(Debug, Default)]
pub(super) struct Lists {
    pub(super) details: Vec<u8>,
    pub(super) chains: Vec<Vec<u8>>,
    pub(super) rules: Vec<Vec<u8>>,
    pub(super) sets: Vec<Vec<u8>>,
    pub(super) objects: Vec<Vec<u8>>,
    pub(super) flowtables: Vec<Vec<u8>>,
}

impl Lists {
    pub(super) fn table(&self) -> Table {
        let Self { details, chains, rules, sets, objects, flowtables } = self;
        let (maps, sets): (Vec<_>, Vec<_>) =
            sets.iter().filter_map(|of| set(of)).partition(|(_, is_map)| *is_map);
        let others = objects.iter().map(|of| kind(of)).chain(maps.iter().map(|_| "map"));
        Table {
            is_flagged: number(details, NFTA_TABLE_FLAGS).is_some_and(|flags| flags != 0),
            chains: chains.iter().filter_map(|of| chain(of)).collect(),
            rules: rules.iter().filter_map(|of| rule(of)).collect(),
            sets: sets.into_iter().map(|(name, _)| name).collect(),
            others: others.chain(flowtables.iter().map(|_| "flowtable")).collect(),
        }
    }
}

fn chain(attributes: &[u8]) -> Option<Chain> {
    Some(Chain { name: text(attributes, NFTA_CHAIN_NAME)?, base: base(attributes) })
}

fn base(attributes: &[u8]) -> Option<Base> {
    let hook = find(attributes, NFTA_CHAIN_HOOK)?;
    let priority = number(hook, NFTA_HOOK_PRIORITY)?.cast_signed();
    Some(Base {
        kind: text(attributes, NFTA_CHAIN_TYPE)?,
        // `enum nf_inet_hooks`.
        hook: match number(hook, NFTA_HOOK_HOOKNUM)? {
            0 => "prerouting",
            1 => "input",
            2 => "forward",
            3 => "output",
            4 => "postrouting",
            _ => "another",
        },
        priority: priority.into(),
        accepts: number(attributes, NFTA_CHAIN_POLICY) == Some(NF_ACCEPT),
    })
}

fn rule(attributes: &[u8]) -> Option<Rule> {
    let comment = find(attributes, NFTA_RULE_USERDATA).and_then(comment);
    Some(Rule { chain: text(attributes, NFTA_RULE_CHAIN)?, comment })
}

/// User data are kind, length and value, one behind the other.
fn comment(mut data: &[u8]) -> Option<String> {
    while let [kind, length, rest @ ..] = data {
        let (value, further) = rest.split_at_checked(usize::from(*length))?;
        if *kind == NFTNL_UDATA_RULE_COMMENT {
            return until_nul(value);
        }
        data = further;
    }
    None
}

/// Name, and whether it is a map; `None` if it is a rule's own.
fn set(attributes: &[u8]) -> Option<(String, bool)> {
    let flags = number(attributes, NFTA_SET_FLAGS).unwrap_or_default();
    let is_named = flags & NFT_SET_ANONYMOUS == 0;
    is_named.then_some((text(attributes, NFTA_SET_NAME)?, flags & NFT_SET_MAP != 0))
}

/// `NFT_OBJECT_COUNTER` and the others.
fn kind(attributes: &[u8]) -> &'static str {
    match number(attributes, NFTA_OBJ_TYPE) {
        Some(1) => "counter",
        Some(2) => "quota",
        Some(3) => "ct helper",
        Some(4) => "limit",
        Some(7) => "ct timeout",
        Some(8) => "secmark",
        Some(9) => "ct expectation",
        Some(10) => "synproxy",
        _ => "object",
    }
}

/// One answer of a dump.
pub(super) struct Object {
    pub(super) family: u8,
    pub(super) attributes: Vec<u8>,
}

async fn dump(message: u16, family: u8, attributes: &[u8]) -> io::Result<Vec<Object>> {
    let mut dump = Dump::ask(NETLINK_NETFILTER, &request(message, family, attributes))?;
    let mut all = Vec::new();
    while let Some(objects) = dump.next().await? {
        all.extend(objects.filter_map(|message| object(&message)));
    }
    Ok(all)
}

/// `struct nfgenmsg` is four bytes, the first is the family.
pub(super) fn object(message: &NetlinkBuffer<&[u8]>) -> Option<Object> {
    let (header, attributes) = message.payload().split_at_checked(4)?;
    Some(Object { family: *header.first()?, attributes: attributes.to_vec() })
}

/// `struct nlmsghdr`, `struct nfgenmsg`, attributes.
fn request(message: u16, family: u8, attributes: &[u8]) -> Vec<u8> {
    const HEADERS: usize = 16 + 4;
    let length = u32::try_from(HEADERS + attributes.len()).unwrap_or(u32::MAX);
    let flags = NLM_F_REQUEST | NLM_F_DUMP;
    [
        &length.to_ne_bytes()[..],
        &(NFNL_SUBSYS_NFTABLES << 8 | message).to_ne_bytes(),
        &flags.to_ne_bytes(),
        // Sequence number and port: the kernel's answers come on this socket only.
        &[0; 8],
        &[family, 0, 0, 0],
        attributes,
    ]
    .concat()
}

fn attribute(kind: u16, value: &[u8]) -> Vec<u8> {
    let length = NLA_HEADER_SIZE + value.len();
    let mut bytes = u16::try_from(length).unwrap_or(u16::MAX).to_ne_bytes().to_vec();
    bytes.extend(kind.to_ne_bytes());
    bytes.extend(value);
    bytes.resize(length.next_multiple_of(4), 0);
    bytes
}

async fn in_time<T>(
    doing: &str,
    within: Duration,
    work: impl Future<Output = io::Result<T>>,
) -> Result<T> {
    let outcome = tokio::time::timeout(within, work).await;
    outcome
        .unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()))
        .map_err(|cause| failed(doing, &cause))
}

fn failed(doing: &str, cause: &io::Error) -> Error {
    match cause.raw_os_error().map(Errno::from_raw_os_error) {
        Some(Errno::PERM | Errno::ACCESS) => {
            Error::new(Kind::Denied, doing, cause).with_advice("run as root with CAP_NET_ADMIN")
        }
        // nfnetlink answers EINVAL for a subsystem that is neither there nor can be loaded.
        Some(Errno::INVAL | Errno::OPNOTSUPP | Errno::PROTONOSUPPORT) => {
            Error::new(Kind::NotFound, doing, cause)
                .with_advice("load the kernel's module: modprobe nf_tables")
        }
        _ => Error::new(Kind::Unreachable, doing, cause),
    }
}

/// The value of the first attribute of that kind.
fn find(attributes: &[u8], kind: u16) -> Option<&[u8]> {
    NlasIterator::new(attributes).flatten().find(|attribute| attribute.kind() == kind).and_then(
        |attribute| {
            let length = usize::from(attribute.length());
            attribute.into_inner().get(NLA_HEADER_SIZE..length)
        },
    )
}

/// Numbers are in network byte order.
fn number(attributes: &[u8], kind: u16) -> Option<u32> {
    Some(u32::from_be_bytes(find(attributes, kind)?.try_into().ok()?))
}

fn text(attributes: &[u8], kind: u16) -> Option<String> {
    until_nul(find(attributes, kind)?)
}

fn until_nul(bytes: &[u8]) -> Option<String> {
    let text = bytes.split(|byte| *byte == 0).next()?;
    std::str::from_utf8(text).ok().map(str::to_owned)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_comment_is_found_among_user_data() {
        assert_eq!(comment(b"\x00\x05natd\x00").as_deref(), Some("natd"));
        assert_eq!(comment(b"\x01\x02xy\x00\x05natd\x00").as_deref(), Some("natd"));
        assert_eq!(comment(b"\x01\x02xy"), None);
        assert_eq!(comment(b"\x00\x7fcut short"), None);
    }

    #[test]
    fn a_request_is_laid_out_as_the_kernel_takes_it() {
        let request = request(NFT_MSG_GETRULE, NFPROTO_INET, &attribute(TABLE, b"natd\0"));
        assert_eq!(request.len(), 16 + 4 + 12);
        assert_eq!(request.get(4..6), Some(&0x0a07_u16.to_ne_bytes()[..]));
        assert_eq!(request.get(16..20), Some(&[1, 0, 0, 0][..]));
        assert_eq!(request.get(24..), Some(&b"natd\0\0\0\0"[..]));
    }
}
