//! Slips of the pen: which of the names that are known was meant.

/// A name this far away (in edits) from a known one is taken for a slip of it.
const MAX_SLIP: usize = 3;
/// Nobody writes longer names by hand, and comparing them costs the product of their lengths, in bytes.
const MAX_LENGTH: usize = 63;

/// The known name that is nearest to `name`, if it is near enough. Of a short name, half may be wrong.
pub(crate) fn nearest<'a>(name: &str, known: impl Iterator<Item = &'a str>) -> Option<&'a str> {
    let is_comparable = |known: &&str| {
        known.len().max(name.len()) <= MAX_LENGTH && known.len().abs_diff(name.len()) <= MAX_SLIP
    };
    known
        .filter(is_comparable)
        .map(|known| (strsim::damerau_levenshtein(known, name), known))
        .min()
        .filter(|(slip, _)| *slip <= MAX_SLIP.min(name.len() / 2))
        .map(|(_, known)| known)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_nearest_name_is_meant_unless_it_is_far() {
        let near = |name: &str| nearest(name, ["edge", "inner"].into_iter());
        assert_eq!(near("egde"), Some("edge"));
        assert_eq!(near("iner"), Some("inner"));
        assert_eq!(near("nowhere"), None);
        assert_eq!(near("x"), None);
        let long = "e".repeat(MAX_LENGTH + 1);
        assert_eq!(nearest(&long, [long.as_str()].into_iter()), None);
    }
}
