//! Prefixes of paths, found by the paths they cover. One flat table instead of a trie with a node per element: as few
//! jumps in memory as there are prefixes to try, and no recursion.

use std::{collections::HashMap, iter};

use foldhash::fast::RandomState;

/// Values by element-wise prefix.
#[derive(Debug)]
pub(super) struct PrefixMap<T> {
    /// Without slash at the end, so that `/` is the empty text.
    values: HashMap<Box<str>, T, RandomState>,
    /// Which numbers of elements occur. Others are not tried, so that a path of a thousand elements costs no more than
    /// an ordinary one.
    depths: Vec<bool>,
}

impl<T> Default for PrefixMap<T> {
    fn default() -> Self {
        Self {
            values: HashMap::default(),
            depths: Vec::new(),
        }
    }
}

impl<T: Default> PrefixMap<T> {
    /// The value of a prefix.
    pub(super) fn entry(&mut self, prefix: &str) -> &mut T {
        let prefix = prefix.trim_end_matches('/');
        let depth = elements(prefix);
        self.depths.resize(self.depths.len().max(depth + 1), false);
        if let Some(occurs) = self.depths.get_mut(depth) {
            *occurs = true;
        }
        self.values.entry(prefix.into()).or_default()
    }
}

impl<T> PrefixMap<T> {
    pub(super) fn values_mut(&mut self) -> impl Iterator<Item = &mut T> {
        self.values.values_mut()
    }

    /// The values whose prefix covers `path`, longest first.
    pub(super) fn covering<'a, 'p>(
        &'a self,
        path: &'p str,
    ) -> impl Iterator<Item = &'a T> + use<'a, 'p, T> {
        let deepest = self
            .depths
            .len()
            .checked_sub(1)
            .filter(|_| path.starts_with('/'));
        let longest = deepest.map(|deepest| {
            let end = path
                .match_indices('/')
                .nth(deepest)
                .map_or(path.len(), |(end, _)| end);
            let prefix = path.get(..end).unwrap_or(path);
            (prefix, elements(prefix))
        });
        let prefixes = iter::successors(longest, |(prefix, depth)| {
            prefix
                .rsplit_once('/')
                .map(|(shorter, _)| (shorter, depth.saturating_sub(1)))
        });
        let occurring = prefixes.filter(|(_, depth)| self.depths.get(*depth) == Some(&true));
        occurring.filter_map(|(prefix, _)| self.values.get(prefix))
    }
}

fn elements(prefix: &str) -> usize {
    prefix.bytes().filter(|byte| *byte == b'/').count()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn prefixes_cover_whole_elements_longest_first() {
        let mut map = PrefixMap::<Vec<&str>>::default();
        for prefix in ["/", "/a", "/a/b/c", "/a//b"] {
            map.entry(prefix).push(prefix);
        }
        for (path, expected) in [
            ("/", &["/"][..]),
            ("/a", &["/a", "/"]),
            ("/a/", &["/a", "/"]),
            ("/ab", &["/"]),
            ("/a/b", &["/a", "/"]),
            ("/a/b/c", &["/a/b/c", "/a", "/"]),
            ("/a/b/c/d/e", &["/a/b/c", "/a", "/"]),
            ("/a/b/cd", &["/a", "/"]),
            ("/a//b/", &["/a//b", "/a", "/"]),
            ("*", &[]),
            ("", &[]),
        ] {
            let found: Vec<_> = map.covering(path).flatten().copied().collect();
            assert_eq!(found, expected, "{path}");
        }
        assert_eq!(PrefixMap::<Vec<&str>>::default().covering("/").count(), 0);
    }
}
