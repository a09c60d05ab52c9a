//! Greetings of TLS clients (`ClientHello`, RFC 8446 4.1.2), good and bad, built byte by byte from a few words.
//!
//! | words | greeting |
//! | --- | --- |
//! | `plain NAME` | one that is as it should be |
//! | `none` | without a name |
//! | `twice NAME NAME` | two names in one list |
//! | `lists NAME NAME` | two lists of one name |
//! | `kind NUMBER NAME` | a name of another kind than a host's |
//! | `records BYTES NAME` | in records of so many bytes |
//! | `padded BYTES NAME` | with so many bytes of padding |
//! | `behind NAME` | with a second message in the record |
//! | `server NAME` | the message of a server |
//! | `lying NAME` | with a length that is more than there is |
//! | `empty` | with an empty name |
//! | `version NUMBER BYTES NAME` | in records of so many bytes, the first of this major version |
//! | `alerted NAME` | behind an alert |

/// Bytes of a record, at most (RFC 8446 5.1).
const MAX_RECORD: usize = 1 << 14;
const CLIENT_HELLO: u8 = 1;
const SERVER_HELLO: u8 = 2;

/// The greeting that `words` describe.
pub(super) fn greeting(words: &str) -> Vec<u8> {
    let words: Vec<_> = words.split(' ').collect();
    let number = |text: &str| text.parse::<usize>().unwrap();
    let plain = |name: &str| hello(&list(&[name]));
    match *words {
        ["plain", name] => records(&plain(name), MAX_RECORD),
        ["none"] => records(&hello(&[]), MAX_RECORD),
        ["empty"] => records(&plain(""), MAX_RECORD),
        ["twice", one, two] => records(&hello(&list(&[one, two])), MAX_RECORD),
        ["lists", one, two] => records(&hello(&[list(&[one]), list(&[two])].concat()), MAX_RECORD),
        ["kind", kind, name] => {
            let mut extension = list(&[name]);
            // Behind type, length, and length of the list.
            extension[6] = u8::try_from(number(kind)).unwrap();
            records(&hello(&extension), MAX_RECORD)
        }
        ["records", bytes, name] => records(&plain(name), number(bytes)),
        ["padded", bytes, name] => {
            let padding = [vec![0, 21], sized(&vec![0; number(bytes)], 2)].concat();
            records(&hello(&[list(&[name]), padding].concat()), MAX_RECORD)
        }
        ["version", major, bytes, name] => {
            let mut records = records(&plain(name), number(bytes));
            records[1] = u8::try_from(number(major)).unwrap();
            records
        }
        ["alerted", name] => {
            let alert = vec![21, 3, 1, 0, 2, 1, 90];
            [alert, records(&plain(name), MAX_RECORD)].concat()
        }
        ["behind", name] => records(&[plain(name), plain(name)].concat(), MAX_RECORD),
        ["server", name] => {
            let mut message = plain(name);
            message[0] = SERVER_HELLO;
            records(&message, MAX_RECORD)
        }
        ["lying", name] => {
            let mut extension = list(&[name]);
            extension[3] += 1;
            records(&hello(&extension), MAX_RECORD)
        }
        _ => panic!("no greeting: {words:?}"),
    }
}

/// The message, with these extensions and what every hello has.
fn hello(extensions: &[u8]) -> Vec<u8> {
    let groups = [vec![0, 10], sized(&sized(&[0, 29], 2), 2)].concat();
    let body = [
        vec![3, 3],
        vec![7; 32],
        sized(&[], 1),
        sized(&[0x13, 0x01], 2),
        sized(&[0], 1),
        sized(&[extensions, &groups].concat(), 2),
    ];
    [vec![CLIENT_HELLO], sized(&body.concat(), 3)].concat()
}

/// The extension with the names of hosts (RFC 6066 3).
fn list(names: &[&str]) -> Vec<u8> {
    let names = names
        .iter()
        .flat_map(|name| [vec![0], sized(name.as_bytes(), 2)].concat());
    [vec![0, 0], sized(&sized(&names.collect::<Vec<_>>(), 2), 2)].concat()
}

/// Bytes behind a number of `width` bytes that says how many they are.
fn sized(bytes: &[u8], width: usize) -> Vec<u8> {
    let length = u64::try_from(bytes.len()).unwrap().to_be_bytes();
    [&length[length.len() - width..], bytes].concat()
}

/// Handshake records that carry so many bytes each.
fn records(message: &[u8], bytes: usize) -> Vec<u8> {
    let record = |piece: &[u8]| [vec![22, 3, 1], sized(piece, 2)].concat();
    message.chunks(bytes).flat_map(record).collect()
}
