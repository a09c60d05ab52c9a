//! Hostnames of listeners and routes: what they match, and which is the more specific.

use std::{
    cmp::Reverse,
    collections::{BTreeMap, HashMap},
    sync::Arc,
};

use foldhash::fast::RandomState;

/// A hostname as it stands on a listener or route.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum HostPattern<'a> {
    /// No hostname at all: every host.
    Any,
    /// `*.suffix`, kept without the `*.`: one or more labels before the suffix.
    Wildcard(&'a str),
    /// This host only.
    Exact(&'a str),
}

/// How specific a hostname is; the greater one wins.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum HostRank {
    Any,
    /// Length of the suffix in bytes.
    Wildcard(usize),
    Exact,
}

impl<'a> HostPattern<'a> {
    pub(crate) fn new(hostname: Option<&'a str>) -> Self {
        match hostname {
            None => Self::Any,
            Some(text) => text
                .strip_prefix("*.")
                .map_or(Self::Exact(text), Self::Wildcard),
        }
    }

    /// The patterns of a list, in which an empty one stands for every host.
    pub(crate) fn of_list(hostnames: &'a [String]) -> impl Iterator<Item = Self> {
        let any = hostnames.is_empty().then_some(Self::Any);
        Self::of_each(hostnames).chain(any)
    }

    /// The patterns of a list.
    pub(crate) fn of_each(hostnames: &'a [String]) -> impl Iterator<Item = Self> {
        let hostnames = hostnames.iter();
        hostnames.map(|hostname| Self::new(Some(hostname)))
    }

    pub(crate) fn rank(self) -> HostRank {
        match self {
            Self::Any => HostRank::Any,
            Self::Wildcard(suffix) => HostRank::Wildcard(suffix.len()),
            Self::Exact(_) => HostRank::Exact,
        }
    }

    /// It without its `*.`; nothing of every host.
    pub(crate) fn name(self) -> &'a str {
        match self {
            Self::Any => "",
            Self::Wildcard(name) | Self::Exact(name) => name,
        }
    }

    pub(crate) fn matches(self, host: &str) -> bool {
        match self {
            Self::Any => true,
            Self::Wildcard(suffix) => host
                .strip_suffix(suffix)
                .is_some_and(|labels| labels.len() > 1 && labels.ends_with('.')),
            Self::Exact(exact) => host == exact,
        }
    }
}

impl std::fmt::Display for HostPattern<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Any => f.write_str("*"),
            Self::Wildcard(suffix) => write!(f, "*.{suffix}"),
            Self::Exact(exact) => f.write_str(exact),
        }
    }
}

/// Values by hostname, found by host.
#[derive(Clone, Debug)]
pub(crate) struct HostMap<T> {
    exact: HashMap<Arc<str>, T, RandomState>,
    /// By suffix, without the `*.`.
    wildcard: HashMap<Arc<str>, T, RandomState>,
    /// The lengths that occur among the suffixes, longest first, and how often. Only these are tried, so that a host of
    /// a thousand labels costs no more than an ordinary one.
    suffix_lengths: BTreeMap<Reverse<usize>, usize>,
    any: Option<T>,
}

impl<T> Default for HostMap<T> {
    fn default() -> Self {
        Self {
            exact: HashMap::default(),
            wildcard: HashMap::default(),
            suffix_lengths: BTreeMap::new(),
            any: None,
        }
    }
}

impl<T> HostMap<T> {
    pub(crate) fn get(&self, pattern: HostPattern<'_>) -> Option<&T> {
        match pattern {
            HostPattern::Any => self.any.as_ref(),
            HostPattern::Wildcard(suffix) => self.wildcard.get(suffix),
            HostPattern::Exact(exact) => self.exact.get(exact),
        }
    }

    pub(crate) fn insert(&mut self, pattern: HostPattern<'_>, value: T) {
        match pattern {
            HostPattern::Any => self.any = Some(value),
            HostPattern::Wildcard(suffix) => {
                if self.wildcard.insert(suffix.into(), value).is_none() {
                    *self
                        .suffix_lengths
                        .entry(Reverse(suffix.len()))
                        .or_default() += 1;
                }
            }
            HostPattern::Exact(exact) => {
                self.exact.insert(exact.into(), value);
            }
        }
    }

    pub(crate) fn remove(&mut self, pattern: HostPattern<'_>) {
        match pattern {
            HostPattern::Any => self.any = None,
            HostPattern::Wildcard(suffix) => {
                if self.wildcard.remove(suffix).is_some() {
                    self.suffix_lengths
                        .entry(Reverse(suffix.len()))
                        .and_modify(|count| *count -= 1);
                    self.suffix_lengths.retain(|_, count| *count > 0);
                }
            }
            HostPattern::Exact(exact) => {
                self.exact.remove(exact);
            }
        }
    }

    /// The values whose hostname matches `host`, most specific first.
    pub(crate) fn matching(&self, host: &str) -> impl Iterator<Item = &T> {
        self.covering(HostPattern::Exact(host))
    }

    /// The values whose hostname matches every host that `pattern` does, most specific first.
    pub(crate) fn covering(&self, pattern: HostPattern<'_>) -> impl Iterator<Item = &T> {
        let (same, host) = match pattern {
            HostPattern::Any => (None, ""),
            HostPattern::Wildcard(suffix) => (self.wildcard.get(suffix), suffix),
            HostPattern::Exact(host) if self.exact.is_empty() => (None, host),
            HostPattern::Exact(host) => (self.exact.get(host), host),
        };
        let suffixes = self
            .suffix_lengths
            .keys()
            .filter_map(move |length| suffix(host, length.0));
        let wildcards = suffixes.filter_map(|suffix| self.wildcard.get(suffix));
        same.into_iter().chain(wildcards).chain(&self.any)
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.exact.is_empty() && self.wildcard.is_empty() && self.any.is_none()
    }

    /// Every value with its hostname, in no particular order.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (HostPattern<'_>, &T)> {
        let exact = self
            .exact
            .iter()
            .map(|(host, value)| (HostPattern::Exact(host), value));
        let wildcard = self
            .wildcard
            .iter()
            .map(|(suffix, value)| (HostPattern::Wildcard(suffix), value));
        exact
            .chain(wildcard)
            .chain(self.any.iter().map(|value| (HostPattern::Any, value)))
    }
}

/// The last `length` bytes of `host`, if at least one whole label stands before them.
fn suffix(host: &str, length: usize) -> Option<&str> {
    let dot = host.len().checked_sub(length + 1).filter(|dot| *dot > 0)?;
    host.get(dot..)?.strip_prefix('.')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_wildcard_covers_any_depth_but_not_the_bare_suffix() {
        let wildcard = HostPattern::new(Some("*.a.b"));
        for (host, matches) in [
            ("x.a.b", true),
            ("y.x.a.b", true),
            ("a.b", false),
            (".a.b", false),
            ("xa.b", false),
        ] {
            assert_eq!(wildcard.matches(host), matches, "{host}");
        }
    }

    #[test]
    fn the_most_specific_hostname_comes_first() {
        let mut map = HostMap::default();
        for hostname in [None, Some("*.b"), Some("*.a.b"), Some("x.a.b"), Some("*.c")] {
            map.insert(HostPattern::new(hostname), hostname);
        }
        let found: Vec<_> = map.matching("x.a.b").copied().collect();
        assert_eq!(found, [Some("x.a.b"), Some("*.a.b"), Some("*.b"), None]);
        map.remove(HostPattern::new(Some("*.a.b")));
        let found: Vec<_> = map.matching("y.a.b").copied().collect();
        assert_eq!(found, [Some("*.b"), None]);
        assert_eq!(map.matching("b").count(), 1);
        assert_eq!(map.matching("").count(), 1);
    }

    #[test]
    fn a_suffix_never_splits_a_character() {
        let mut map = HostMap::default();
        map.insert(HostPattern::Wildcard("bc"), ());
        assert_eq!(map.matching("é.é").count(), 0);
        assert_eq!(map.matching("aéc").count(), 0);
    }
}
