//! Query parameters, decoded as they are read (application/x-www-form-urlencoded).

/// The decoded value of the first parameter called `name` (decoded); a parameter without `=` has an empty value.
pub(crate) fn first<'a>(query: &'a str, name: &str) -> Option<impl Iterator<Item = u8> + use<'a>> {
    query.split('&').find_map(|parameter| {
        let (key, value) = parameter.split_once('=').unwrap_or((parameter, ""));
        decoded(key).eq(name.bytes()).then(|| decoded(value))
    })
}

/// `+` is a space; `%` and two hexadecimal digits are a byte; anything else stands for itself.
fn decoded(text: &str) -> impl Iterator<Item = u8> {
    let mut rest = text.as_bytes();
    std::iter::from_fn(move || match rest {
        [b'%', high, low, tail @ ..] if high.is_ascii_hexdigit() && low.is_ascii_hexdigit() => {
            rest = tail;
            Some(hex_digit(*high) << 4 | hex_digit(*low))
        }
        [byte, tail @ ..] => {
            rest = tail;
            Some(if *byte == b'+' { b' ' } else { *byte })
        }
        [] => None,
    })
}

/// The value of a character that is known to be a hexadecimal digit.
fn hex_digit(digit: u8) -> u8 {
    match digit {
        b'0'..=b'9' => digit - b'0',
        _ => (digit | 0x20).wrapping_sub(b'a').wrapping_add(10),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn value(query: &str, name: &str) -> Option<String> {
        first(query, name).map(|bytes| String::from_utf8(bytes.collect()).unwrap())
    }

    #[test]
    fn the_first_parameter_of_a_name_counts_and_is_decoded() {
        assert_eq!(value("a=1&b=2&a=3", "a").as_deref(), Some("1"));
        assert_eq!(value("a%20b=c+d%2B%c3%A9", "a b").as_deref(), Some("c d+é"));
        assert_eq!(value("a&b=x=y", "a").as_deref(), Some(""));
        assert_eq!(value("a&b=x=y", "b").as_deref(), Some("x=y"));
        assert_eq!(value("a=100%&b=%zz%4", "a").as_deref(), Some("100%"));
        assert_eq!(value("a=100%&b=%zz%4", "b").as_deref(), Some("%zz%4"));
        assert_eq!(value("A=1", "a"), None);
        assert_eq!(value("", "a"), None);
    }
}
