//! Hellos that rustls makes, hellos that are made here, and what is none.

use std::sync::Arc;

use proptest::prelude::*;
use rustls::{
    ClientConfig, ClientConnection, RootCertStore, SupportedProtocolVersion,
    client::{EchGreaseConfig, EchMode},
    crypto::aws_lc_rs::{default_provider, hpke::ALL_SUPPORTED_SUITES},
    server::Acceptor,
    version::{TLS12, TLS13},
};

use super::*;

const NAME: &str = "www.example.com";

fn hello(server_name: Option<&str>) -> Greeting {
    Greeting::Hello {
        server_name: server_name.map(Into::into),
        encrypted: false,
    }
}

fn read(bytes: &[u8]) -> Greeting {
    GreetingReader::default().read(bytes)
}

/// Reads in pieces that end at `points`.
fn read_in_pieces(bytes: &[u8], points: &[usize]) -> Greeting {
    let mut reader = GreetingReader::default();
    let mut begin = 0;
    for end in points.iter().copied().chain([bytes.len()]) {
        let said = reader.read(&bytes[begin..end]);
        if said != Greeting::Incomplete {
            return said;
        }
        begin = end;
    }
    Greeting::Incomplete
}

/// What a client of rustls sends first.
fn sent_by(config: ClientConfig, name: &'static str) -> Vec<u8> {
    let name = name.try_into().unwrap();
    let mut client = ClientConnection::new(Arc::new(config), name).unwrap();
    let mut bytes = Vec::new();
    client.write_tls(&mut bytes).unwrap();
    bytes
}

fn config(versions: &[&'static SupportedProtocolVersion]) -> ClientConfig {
    let mut config = ClientConfig::builder_with_provider(Arc::new(default_provider()))
        .with_protocol_versions(versions)
        .unwrap()
        .with_root_certificates(RootCertStore::empty())
        .with_no_client_auth();
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    config
}

fn real() -> Vec<u8> {
    sent_by(config(&[&TLS13, &TLS12]), NAME)
}

/// A list or a value with its length in front.
fn vector_of(width: usize, bytes: &[u8]) -> Vec<u8> {
    let length = u32::try_from(bytes.len()).unwrap().to_be_bytes();
    [&length[4 - width..], bytes].concat()
}

fn extension_of(kind: u16, body: &[u8]) -> Vec<u8> {
    [kind.to_be_bytes().to_vec(), vector_of(2, body)].concat()
}

/// A list of names of given kinds.
fn names(names: &[(u8, &[u8])]) -> Vec<u8> {
    let entry = |(kind, name): &(u8, &[u8])| [vec![*kind], vector_of(2, name)].concat();
    let list: Vec<u8> = names.iter().flat_map(entry).collect();
    extension_of(0, &vector_of(2, &list))
}

fn name(name: &[u8]) -> Vec<u8> {
    names(&[(0, name)])
}

/// The body of a hello of TLS 1.0, which has no signature algorithms.
fn body(extensions: Option<&[u8]>) -> Vec<u8> {
    let suites = [0, 47, 0, 53];
    [
        vec![3, 1],
        vec![7; 32],
        vector_of(1, &[9; 32]),
        vector_of(2, &suites),
        vector_of(1, &[0]),
        extensions.map_or(vec![], |extensions| vector_of(2, extensions)),
    ]
    .concat()
}

fn message(body: &[u8]) -> Vec<u8> {
    [vec![CLIENT_HELLO], vector_of(3, body)].concat()
}

fn record_of(payload: &[u8]) -> Vec<u8> {
    [vec![22, 3, 1], vector_of(2, payload)].concat()
}

/// The bytes of a client with these extensions.
fn made(extensions: &[u8]) -> Vec<u8> {
    record_of(&message(&body(Some(extensions))))
}

/// What rustls takes the name for, empty if there is none; `None` if it refuses the hello or has not seen all of it.
fn rustls_says(mut bytes: &[u8]) -> Option<String> {
    let mut acceptor = Acceptor::default();
    while !bytes.is_empty() {
        acceptor.read_tls(&mut bytes).ok()?;
        if let Some(accepted) = acceptor.accept().ok()? {
            let hello = accepted.client_hello();
            return Some(hello.server_name().unwrap_or_default().to_owned());
        }
    }
    None
}

#[test]
fn reads_what_real_clients_send() {
    for versions in [&[&TLS12][..], &[&TLS13], &[&TLS13, &TLS12]] {
        let bytes = sent_by(config(versions), "WWW.Example.COM");
        assert_eq!(read(&bytes), hello(Some(NAME)));
        assert_eq!(rustls_says(&bytes), Some(NAME.to_owned()));
        // rustls sends no name for an address.
        let nameless = sent_by(config(versions), "192.0.2.1");
        assert_eq!(read(&nameless), hello(None));
        assert_eq!(rustls_says(&nameless), Some(String::new()));
    }
}

#[test]
fn an_encrypted_hello_is_told_and_the_outer_name_read() {
    let suite = ALL_SUPPORTED_SUITES[0];
    let (key, _) = suite.generate_key_pair().unwrap();
    let config = ClientConfig::builder_with_provider(Arc::new(default_provider()))
        .with_ech(EchMode::Grease(EchGreaseConfig::new(suite, key)))
        .unwrap()
        .with_root_certificates(RootCertStore::empty())
        .with_no_client_auth();
    assert_eq!(
        read(&sent_by(config, NAME)),
        Greeting::Hello {
            server_name: Some(NAME.into()),
            encrypted: true,
        }
    );
}

#[test]
fn the_answer_comes_with_the_last_byte_wherever_the_bytes_are_split() {
    for bytes in [real(), made(&name(NAME.as_bytes()))] {
        for split in 0..bytes.len() {
            assert_eq!(read(&bytes[..split]), Greeting::Incomplete, "{split}");
            assert_eq!(read_in_pieces(&bytes, &[split]), hello(Some(NAME)));
        }
        let every: Vec<_> = (0..bytes.len()).collect();
        assert_eq!(read_in_pieces(&bytes, &every), hello(Some(NAME)));
    }
}

#[test]
fn a_hello_may_come_in_many_records() {
    let message = message(&body(Some(&name(NAME.as_bytes()))));
    for split in 1..message.len() {
        let (first, second) = message.split_at(split);
        let bytes = [record_of(first), record_of(second)].concat();
        assert_eq!(read(&bytes), hello(Some(NAME)), "{split}");
        assert_eq!(read_in_pieces(&bytes, &[split]), hello(Some(NAME)));
    }
    let in_records = |size| -> Vec<u8> { message.chunks(size).flat_map(record_of).collect() };
    assert!(message.len() > MAX_RECORDS && message.len() < 2 * MAX_RECORDS);
    assert_eq!(read(&in_records(2)), hello(Some(NAME)));
    assert_eq!(
        read(&in_records(1)),
        Greeting::Refused(Refusal::TooManyRecords)
    );
    for foreign in [[23, 3, 3, 0, 1], [22, 4, 1, 0, 1], [0x80, 1, 1, 3, 1]] {
        let bytes = [record_of(&message[..9]), foreign.to_vec()].concat();
        assert_eq!(read(&bytes), Greeting::Refused(Refusal::Malformed));
    }
}

#[test]
fn what_cannot_begin_a_record_is_not_tls_at_the_first_such_byte() {
    for (bytes, decided_at) in [
        (&b"GET / HTTP/1.1\r\n"[..], 1),
        (b"SSH-2.0-OpenSSH_9.9\r\n", 1),
        (b"\x00\x00\x00\x00\x00", 1),
        (b"\x17\x03\x03\x00\x02", 1),
        // In an odd version, what carries nothing or no hello.
        (b"\x16\x02\x01\x00\x00", 5),
        (b"\x16\x02\x01\x40\x01", 5),
        (b"\x16\x00\x00\x00\x01\x00", 6),
        (b"\x16\x00\x00\x00\x20\x02", 6),
        // Nor one that goes on in another record: the length of a message, say.
        (b"\x16\x00\x00\x00\x01\x01\x00", 7),
        (b"\x16\x00\x00\x00\x02\x01\x00\x17", 8),
        (b"\x16GET", 2),
        (b"\x15\x03\x01\x00\x03", 5),
        (b"\x14\x10", 2),
        (b"\xff\xff\xff\xff\xff", 1),
        // As SSL 2.0 does, and what wraps later versions in that.
        (b"\x80\x2e\x01\x00\x02", 1),
        (b"\x80\x2e\x01\x03\x01", 1),
    ] {
        assert_eq!(read(bytes), Greeting::NotTls, "{bytes:?}");
        assert_eq!(read(&bytes[..decided_at]), Greeting::NotTls, "{bytes:?}");
        assert_eq!(read(&bytes[..decided_at - 1]), Greeting::Incomplete);
    }
}

/// Servers take such greetings, so whom they name must not be overlooked.
#[test]
fn neither_an_odd_version_nor_a_record_before_hides_a_greeting() {
    let greeting = made(&name(NAME.as_bytes()));
    for version in [[0, 0], [2, 0], [15, 255]] {
        let mut odd = greeting.clone();
        odd[1..3].copy_from_slice(&version);
        assert_eq!(read(&odd), hello(Some(NAME)), "{version:?}");
        // However little of it the first record carries.
        for carried in 1..9 {
            let (first, rest) = greeting[5..].split_at(carried);
            let mut odd = record_of(first);
            odd[1..3].copy_from_slice(&version);
            let bytes = [odd, record_of(rest)].concat();
            assert_eq!(read(&bytes), hello(Some(NAME)), "{version:?} {carried}");
        }
    }
    for before in [
        [21, 3, 1, 0, 2, 1, 90].as_slice(),
        &[20, 3, 3, 0, 1, 1],
        &[21, 0, 0, 0, 2, 1, 0],
    ] {
        let bytes = [before, &greeting].concat();
        assert_eq!(
            read(&bytes),
            Greeting::Refused(Refusal::Malformed),
            "{before:?}"
        );
    }
}

#[test]
fn only_one_dns_name_is_a_name() {
    let long = format!("{}.example.com", "a".repeat(64));
    let many = "a.".repeat(127) + "aa";
    for (extensions, said) in [
        (name(b"WWW.example.COM"), hello(Some(NAME))),
        (
            name(b"a_b.xn--bcher-kva.example"),
            hello(Some("a_b.xn--bcher-kva.example")),
        ),
        (name(b""), Greeting::Refused(Refusal::EmptyName)),
        (name(b"192.0.2.1"), Greeting::Refused(Refusal::Address)),
        (name(b"2001:db8::1"), Greeting::Refused(Refusal::Address)),
        (name(b"[2001:db8::1]"), Greeting::Refused(Refusal::NotAName)),
        (name(b"192.0.2"), Greeting::Refused(Refusal::NotAName)),
        (name(b"192.0.2.1."), Greeting::Refused(Refusal::NotAName)),
        (name(b"example.com."), Greeting::Refused(Refusal::NotAName)),
        (
            name(b"a..example.com"),
            Greeting::Refused(Refusal::NotAName),
        ),
        (name(b".example.com"), Greeting::Refused(Refusal::NotAName)),
        (name(b"*.example.com"), Greeting::Refused(Refusal::NotAName)),
        (
            name(b"a\0.example.com"),
            Greeting::Refused(Refusal::NotAName),
        ),
        (
            name("bücher.example".as_bytes()),
            Greeting::Refused(Refusal::NotAName),
        ),
        (name(b"a b"), Greeting::Refused(Refusal::NotAName)),
        (name(b"a.com/"), Greeting::Refused(Refusal::NotAName)),
        (name(b"a.com:443"), Greeting::Refused(Refusal::NotAName)),
        (name(long.as_bytes()), Greeting::Refused(Refusal::NotAName)),
        (name(many.as_bytes()), Greeting::Refused(Refusal::NotAName)),
        (names(&[]), Greeting::Refused(Refusal::Malformed)),
        (
            names(&[(1, b"a.com")]),
            Greeting::Refused(Refusal::Malformed),
        ),
        (
            names(&[(0, b"a.com"), (0, b"b.com")]),
            Greeting::Refused(Refusal::TwoNames),
        ),
        (
            names(&[(0, b"a.com"), (1, b"b.com")]),
            Greeting::Refused(Refusal::TwoNames),
        ),
        (
            [name(b"a.com"), name(b"a.com")].concat(),
            Greeting::Refused(Refusal::TwoNames),
        ),
        (extension_of(0, b""), Greeting::Refused(Refusal::Malformed)),
        (
            extension_of(0, b"\0\0x"),
            Greeting::Refused(Refusal::Malformed),
        ),
        // Noise of every kind (RFC 8701) before and behind.
        (
            [
                extension_of(0x0a0a, b""),
                name(b"a.com"),
                extension_of(0xfafa, b"\0"),
            ]
            .concat(),
            hello(Some("a.com")),
        ),
    ] {
        assert_eq!(read(&made(&extensions)), said, "{extensions:?}");
    }
}

#[test]
fn a_hello_without_a_name_is_one() {
    for bytes in [
        made(&[]),
        made(&extension_of(43, &[2, 3, 1])),
        record_of(&message(&body(None))),
    ] {
        assert_eq!(read(&bytes), hello(None));
        // Of TLS 1.1 and before there are no signature algorithms, without which rustls cannot answer.
        assert_eq!(rustls_says(&bytes), None);
    }
}

#[test]
fn rustls_takes_more_for_a_name_and_for_none() {
    let algorithms = extension_of(13, &vector_of(2, &[4, 3]));
    let cases = [
        (name(NAME.as_bytes()), NAME, hello(Some(NAME))),
        (name(b"192.0.2.1"), "", Greeting::Refused(Refusal::Address)),
        (
            name(b"a.com."),
            "a.com.",
            Greeting::Refused(Refusal::NotAName),
        ),
        (
            names(&[(0, b"a.com"), (1, b"b.com")]),
            "a.com",
            Greeting::Refused(Refusal::TwoNames),
        ),
    ];
    for (extensions, rustls, ours) in cases {
        let bytes = made(&[algorithms.clone(), extensions].concat());
        assert_eq!(rustls_says(&bytes).as_deref(), Some(rustls));
        assert_eq!(read(&bytes), ours);
    }
}

#[test]
fn every_length_must_fit() {
    let whole = body(Some(&name(NAME.as_bytes())));
    let malformed = Greeting::Refused(Refusal::Malformed);
    for cut in 1..whole.len() - 1 {
        let cut = &whole[..cut];
        let said = read(&record_of(&message(cut)));
        // All that comes before the extensions is a hello as well.
        let is_whole = cut.len() == body(None).len();
        assert_eq!(
            said,
            if is_whole {
                hello(None)
            } else {
                malformed.clone()
            }
        );
    }
    let longer = [whole.clone(), vec![0]].concat();
    assert_eq!(read(&record_of(&message(&longer))), malformed);
    let followed = [message(&whole), vec![0]].concat();
    assert_eq!(read(&record_of(&followed)), malformed);
    let mut ssl = whole.clone();
    ssl[0] = 2;
    assert_eq!(read(&record_of(&message(&ssl))), malformed);
    assert_eq!(read(&record_of(&[2, 0, 0, 0])), malformed);
    assert_eq!(read(&record_of(&[])), malformed);
    assert_eq!(read(&[22, 3, 1, 0x40, 1]), malformed);
    // What comes behind the record is no part of it: early data, for one.
    let early = [real(), vec![23, 3, 3, 0, 1, 0]].concat();
    assert_eq!(read(&early), hello(Some(NAME)));
}

#[test]
fn a_hello_is_bounded() {
    let padded = |length: usize| {
        let bare = body(Some(&extension_of(21, &[]))).len();
        message(&body(Some(&extension_of(21, &vec![0; length - bare]))))
    };
    let bytes: Vec<u8> = padded(MAX_HELLO)
        .chunks(MAX_RECORD)
        .flat_map(record_of)
        .collect();
    assert_eq!(read(&bytes), hello(None));
    let longer = padded(MAX_HELLO + 1);
    assert_eq!(
        read(&record_of(&longer[..MESSAGE_HEADER])),
        Greeting::Refused(Refusal::TooLong)
    );
}

/// A hello with some bytes changed, and still nearly one.
fn nearly_hello() -> impl Strategy<Value = Vec<u8>> {
    let changes = proptest::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..4);
    let made = made(&name(NAME.as_bytes()));
    let bytes = prop_oneof![Just(real()), Just(made)];
    (bytes, changes).prop_map(|(mut bytes, changes)| {
        for (at, byte) in changes {
            let at = at.index(bytes.len());
            bytes[at] = byte;
        }
        bytes
    })
}

proptest! {
    #[test]
    fn never_panics(bytes in proptest::collection::vec(any::<u8>(), 0..512)) {
        let message = [record_of(&message(&bytes)), record_of(&bytes)].concat();
        read(&message);
        read(&made(&bytes));
        read(&bytes);
    }

    #[test]
    fn the_answer_does_not_depend_on_the_split(
        bytes in nearly_hello(),
        points in proptest::collection::vec(any::<prop::sample::Index>(), 0..6),
    ) {
        let mut points: Vec<_> = points.iter().map(|point| point.index(bytes.len())).collect();
        points.sort_unstable();
        prop_assert_eq!(read_in_pieces(&bytes, &points), read(&bytes));
    }

    #[test]
    fn a_name_stands_in_the_bytes_and_rustls_reads_the_same(bytes in nearly_hello()) {
        if let Greeting::Hello { server_name, .. } = read(&bytes) {
            if let Some(name) = &server_name {
                let lower = bytes.to_ascii_lowercase();
                prop_assert!(lower.windows(name.len()).any(|part| part == name.as_bytes()));
            }
            if let Some(said) = rustls_says(&bytes) {
                prop_assert_eq!(&*said, server_name.as_deref().unwrap_or_default());
            }
        }
    }
}
