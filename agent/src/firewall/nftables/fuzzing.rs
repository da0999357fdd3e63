//! Whatever the kernel tells of tables, of traced packets and of tracked connections, and whatever `nft` prints: what is
//! malformed is passed over, and what natd makes of the rest has bounds.

use std::collections::BTreeMap;

use super::{
    inspect,
    kernel::{Lists, object},
    listing::Listing,
};
use crate::{
    canary::trace,
    conntrack,
    fuzzing::shared::{head, pieces},
    netlink,
};

/// `CTA_TUPLE_ORIG`: which connection it is.
const TUPLE: u16 = 1;

/// A datagram of the kernel's, in hexadecimal where the first line says `hex`, or, behind `json`, what `nft -j` prints.
pub(crate) fn netlink(input: &[u8]) {
    let mut elements = None;
    let mut lists = Lists::default();
    for piece in pieces(input) {
        match head(piece) {
            (b"json", text) => elements = listed(text).or(elements),
            (b"hex", text) => told(&bytes(text), &mut lists),
            _ => told(piece, &mut lists),
        }
    }
    let table = lists.table();
    assert!(table.rules.len() <= lists.rules.len() && table.chains.len() <= lists.chains.len());
    let loaded = inspect(&table, elements.as_ref());
    assert!(loaded.damage.len() < input.len() + 40, "{} for {input:?}", loaded.damage.len());
    assert_eq!(loaded, inspect(&table, elements.as_ref()));
}

fn listed(text: &[u8]) -> Option<BTreeMap<String, Option<natd_core::ruleset::ElementsDigest>>> {
    let listing: Listing = serde_json::from_slice(text).ok()?;
    Some(listing.sets().map(|set| (set.name.clone(), set.elements())).collect())
}

fn told(datagram: &[u8], lists: &mut Lists) {
    for message in netlink::messages(datagram) {
        let _ = netlink::outcome(&message);
        let _ = trace::event(&message);
        tracked(message.payload());
        let Some(object) = object(&message) else { continue };
        // `NFT_MSG_NEW…`, which the kernel answers with.
        let list = match message.message_type() & 0xff {
            0 => {
                lists.details = object.attributes;
                continue;
            }
            3 => &mut lists.chains,
            6 => &mut lists.rules,
            9 => &mut lists.sets,
            18 => &mut lists.objects,
            _ => &mut lists.flowtables,
        };
        list.push(object.attributes);
    }
}

/// A deletion names the one connection that was listed, or isn't asked for: one without would delete them all.
fn tracked(payload: &[u8]) {
    let Some((family, attributes)) = conntrack::split_header(payload) else { return };
    let _ = conntrack::flow(attributes);
    let Some(request) = conntrack::deletion(family, attributes) else { return };
    let message = netlink::messages(&request).next();
    assert_eq!(message.as_ref().map(|m| m.length() as usize), Some(request.len()));
    let Some((_, identity)) = message.as_ref().and_then(|m| m.payload().split_at_checked(4)) else {
        unreachable!("a deletion without a header")
    };
    assert_eq!(
        conntrack::find(identity, &[TUPLE]),
        conntrack::find(attributes, &[TUPLE]),
        "another connection, or all of them, would be deleted"
    );
}

/// Pairs of hexadecimal digits; what else there is is passed over.
fn bytes(text: &[u8]) -> Vec<u8> {
    let digits: Vec<u8> = text
        .iter()
        .filter_map(|digit| char::from(*digit).to_digit(16))
        .filter_map(|digit| u8::try_from(digit).ok())
        .collect();
    digits
        .chunks_exact(2)
        .map(|pair| pair.iter().fold(0, |byte, digit| byte << 4 | digit))
        .collect()
}
