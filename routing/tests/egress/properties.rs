//! What holds for every text and every address. The `url` crate, which reads hosts as browsers do, is the second opinion.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use portcullis_routing::egress::{
    address::AddressClass,
    host::{Authority, Host, HostError},
};
use proptest::prelude::*;

/// Texts that are nearly hosts: what is arbitrary all through hardly gets past the first check.
fn nearly_a_host() -> impl Strategy<Value = String> {
    prop_oneof![
        any::<String>(),
        // Labels of everything that is mapped, joined, dropped or counted.
        "([a-zA-Z0-9_\\-äßаα\u{ad}\u{200b}\u{200d}\u{308}\u{ff11}\u{2460}\u{4f8b}\u{5d0}]{0,6}[.。．｡]?){1,5}",
        "(xn--|XN--)[a-z0-9\\-]{0,12}(\\.[a-z]{1,3})?\\.?",
        nearly_an_ipv4_address(),
        "\\[?[0-9a-fA-F:.]{1,24}\\]?(%25?[a-z0-9]{0,4})?",
        any::<Ipv6Addr>().prop_map(|address| address.to_string()),
    ]
}

/// Numbers of every base, most of them small, in one to five parts.
fn nearly_an_ipv4_address() -> impl Strategy<Value = String> {
    let number = prop_oneof![
        0..300_u64,
        any::<u32>().prop_map(u64::from),
        u64::from(u32::MAX)..u64::from(u32::MAX) + 3,
    ];
    let digits = (number, 0..6).prop_map(|(number, base)| match base {
        0 => format!("0x{number:x}"),
        1 => format!("0X{number:X}"),
        2 => format!("0{number:o}"),
        3 => format!("00{number:o}"),
        _ => number.to_string(),
    });
    let wide = any::<bool>();
    (prop::collection::vec(digits, 1..6), wide, "\\.{0,2}").prop_map(|(parts, wide, end)| {
        let text = parts.join(".") + &end;
        if wide {
            text.chars().map(to_wide).collect()
        } else {
            text
        }
    })
}

/// The full-width form of a character of ASCII.
fn to_wide(c: char) -> char {
    char::from_u32(u32::from(c) + 0xfee0).unwrap()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1024))]

    #[test]
    fn a_normal_form_is_its_own(text in nearly_a_host()) {
        if let Ok(host) = Host::parse(&text) {
            prop_assert_eq!(Host::parse(&host.to_string()), Ok(host));
        }
    }

    #[test]
    fn an_authority_in_normal_form_is_its_own(host in nearly_a_host(), port in "(:[0-9+ ]{0,6})?") {
        if let Ok(authority) = Authority::parse(&format!("{host}{port}")) {
            prop_assert_eq!(Authority::parse(&authority.to_string()), Ok(authority));
        }
    }

    #[test]
    fn a_name_is_what_dns_takes(text in nearly_a_host()) {
        if let Ok(Host::Name(name)) = Host::parse(&text) {
            prop_assert!(name.len() <= 253);
            for label in name.split('.') {
                let plain = label.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || matches!(b, b'-' | b'_'));
                prop_assert!(plain && (1..=63).contains(&label.len()), "{}", label);
            }
        }
    }

    /// What a browser, or any client built on the same standard, would connect to.
    #[test]
    fn others_read_the_same_host(text in nearly_a_host()) {
        let Ok(host) = Host::parse(&text) else { return Ok(()) };
        let bracketed = match &host {
            Host::Address(IpAddr::V6(_)) if !text.starts_with('[') => format!("[{text}]"),
            _ => text,
        };
        let expected = match url::Host::parse(&bracketed) {
            Ok(url::Host::Domain(domain)) => Host::Name(domain.strip_suffix('.').unwrap_or(&domain).into()),
            Ok(url::Host::Ipv4(address)) => Host::Address(address.into()),
            Ok(url::Host::Ipv6(address)) => Host::Address(address.into()),
            Err(error) => return Err(TestCaseError::fail(format!("{bracketed:?}: {error}"))),
        };
        prop_assert_eq!(host, expected);
    }

    #[test]
    fn what_is_an_ipv4_address_to_others_is_never_a_name(text in nearly_an_ipv4_address()) {
        let found = Host::parse(&text);
        if let Ok(url::Host::Ipv4(address)) = url::Host::parse(&text) {
            let plain = Ok(Host::Address(IpAddr::V4(address)));
            prop_assert!(found == plain || found == Err(HostError::AmbiguousAddress { address }), "{:?}", found);
        }
        prop_assert!(!matches!(found, Ok(Host::Name(_))), "{:?}", found);
    }

    #[test]
    fn only_the_plain_spelling_of_an_ipv4_address_is_taken(text in nearly_an_ipv4_address()) {
        if let Ok(Host::Address(address)) = Host::parse(&text) {
            prop_assert_eq!(address.to_string(), text);
        }
    }

    #[test]
    fn an_address_inside_another_is_never_public(inner in any::<u32>().prop_map(Ipv4Addr::from_bits)) {
        let [a, b, c, d] = inner.octets().map(u16::from);
        let (high, low) = (a << 8 | b, c << 8 | d);
        let around = [
            inner.to_ipv6_mapped(),
            inner.to_ipv6_compatible(),
            Ipv6Addr::new(0x64, 0xff9b, 0, 0, 0, 0, high, low),
            Ipv6Addr::new(0x2002, high, low, 0, 0, 0, 0, 1),
            Ipv6Addr::new(0x2001, 0, high, low, 0, 0, !high, !low),
            Ipv6Addr::new(0x2a00, 1, 2, 3, 0, 0x5efe, high, low),
        ];
        for address in around.into_iter().filter(|address| u128::from(*address) > 1) {
            prop_assert_eq!(AddressClass::of(address.into()), AddressClass::Embedded { inner });
        }
    }

    /// The standard library's words for the ranges that it knows.
    #[test]
    fn the_standard_library_agrees(bits in any::<u32>(), high in prop::sample::select(vec![0, 10, 127, 169, 172, 192, 198, 203, 224, 255])) {
        let address = Ipv4Addr::from_bits(bits & 0x00ff_ffff | high << 24);
        let special = address.is_loopback() || address.is_private() || address.is_link_local() || address.is_multicast()
            || address.is_broadcast() || address.is_documentation() || address.is_unspecified();
        prop_assert!(!(special && AddressClass::of(address.into()).is_public()), "{}", address);
    }
}
