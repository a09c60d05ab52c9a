//! HTTP/2 frames written by hand (RFC 9113 4, RFC 7541), as no library would send them.

/// What every client connection begins with, and empty SETTINGS.
pub(crate) const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0";

pub(crate) const HEADERS: u8 = 1;
pub(crate) const RST_STREAM: u8 = 3;
pub(crate) const SETTINGS: u8 = 4;
pub(crate) const PING: u8 = 6;
pub(crate) const CONTINUATION: u8 = 9;

pub(crate) const END_STREAM: u8 = 1;
pub(crate) const END_HEADERS: u8 = 4;

/// The header block of `GET /` for `a.example` over clear text, without Huffman coding.
pub(crate) const REQUEST: &[u8] = b"\x82\x86\x84\x41\x09a.example";

/// One frame. `payload` must be shorter than 2^24 bytes.
pub(crate) fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(payload.len())
        .unwrap_or(u32::MAX)
        .to_be_bytes();
    let mut frame = vec![length[1], length[2], length[3], kind, flags];
    frame.extend_from_slice(&stream.to_be_bytes());
    frame.extend_from_slice(payload);
    frame
}

/// A literal header field that enters the dynamic table (RFC 7541 6.2.1). `name` is shorter than 127 bytes.
pub(crate) fn indexed_literal(name: &[u8], value: &[u8]) -> Vec<u8> {
    let mut field = vec![0x40, u8::try_from(name.len()).unwrap_or(0x7e)];
    field.extend_from_slice(name);
    // An integer with a prefix of 7 bits (RFC 7541 5.1).
    let mut rest = value.len();
    if rest < 127 {
        field.push(u8::try_from(rest).unwrap_or(0x7e));
    } else {
        field.push(0x7f);
        rest -= 127;
        while rest >= 128 {
            field.push(u8::try_from(rest % 128).unwrap_or(0) | 0x80);
            rest /= 128;
        }
        field.push(u8::try_from(rest).unwrap_or(0x7f));
    }
    field.extend_from_slice(value);
    field
}

/// Repeats entry 62, the newest of the dynamic table: one byte that stands for a whole header field.
pub(crate) const NEWEST_ENTRY: u8 = 0x80 | 0x3e;

#[cfg(test)]
mod tests {
    use super::{HEADERS, frame, indexed_literal};

    #[test]
    fn frames_carry_their_length_and_stream() {
        assert_eq!(
            frame(HEADERS, 5, 3, b"ab"),
            [0, 0, 2, 1, 5, 0, 0, 0, 3, b'a', b'b']
        );
    }

    #[test]
    fn long_values_have_long_lengths() {
        // RFC 7541 C.1.2 shows 1337 with a prefix of 5 bits; with 7 bits the rest is 1210.
        let field = indexed_literal(b"x", &[b'v'; 1337]);
        assert_eq!(field[..6], [0x40, 1, b'x', 0x7f, 0xba, 9]);
        assert_eq!(field.len(), 6 + 1337);
    }
}
