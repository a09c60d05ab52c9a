//! The routes of one hostname of a listener, arranged by path in the order of [`MatchRank`](crate::MatchRank): exact
//! paths, then regular expressions, then the longest prefix.

use std::{cmp::Reverse, collections::HashMap, sync::Arc};

use super::route::{Candidate, CompiledRoute};
use crate::{hostname::HostPattern, lookup::RequestHead, matches::PathMatch, rank::MatchRank};

/// All routes under one hostname.
#[derive(Debug)]
pub(crate) struct HostTable<P> {
    /// By key.
    pub(crate) routes: Vec<Arc<CompiledRoute<P>>>,
    exact: HashMap<Box<str>, Vec<Candidate<P>>>,
    regex: Vec<Candidate<P>>,
    prefixes: PrefixTrie<P>,
}

impl<P> HostTable<P> {
    /// `routes` are sorted by key.
    pub(super) fn new(pattern: HostPattern<'_>, routes: Vec<Arc<CompiledRoute<P>>>) -> Self {
        let mut candidates: Vec<(MatchRank<'_>, &Arc<CompiledRoute<P>>, usize)> = Vec::new();
        for route in &routes {
            candidates.extend(
                route
                    .ranks(pattern)
                    .map(|(index, rank)| (rank, route, index)),
            );
        }
        // Every list below inherits this order, so that the first candidate that holds is the best.
        candidates.sort_by_key(|(rank, ..)| Reverse(*rank));
        let (mut exact, mut regex, mut prefixes) =
            (HashMap::new(), Vec::new(), PrefixTrie::default());
        for (rank, route, index) in candidates {
            let place = match rank.path() {
                PathMatch::Exact(path) => {
                    exact.entry(path.as_str().into()).or_insert_with(Vec::new)
                }
                PathMatch::Regex(_) => &mut regex,
                PathMatch::Prefix(path) => prefixes.place(path),
            };
            if place.is_empty() {
                place.reserve_exact(1); // most places hold one
            }
            place.push(Candidate {
                route: route.clone(),
                index,
            });
        }
        Self {
            routes,
            exact,
            regex,
            prefixes,
        }
    }

    /// The best candidate that holds.
    pub(crate) fn find(&self, head: &RequestHead<'_>) -> Option<&Candidate<P>> {
        let holds = |candidate: &&Candidate<P>| candidate.accepts(head);
        let exact = if self.exact.is_empty() {
            None
        } else {
            self.exact.get(head.path)
        };
        exact
            .and_then(|candidates| candidates.iter().find(holds))
            .or_else(|| {
                self.regex
                    .iter()
                    .find(|candidate| holds(candidate) && candidate.accepts_path(head.path))
            })
            .or_else(|| {
                self.prefixes
                    .find(head.path.strip_prefix('/')?.into(), &holds)
            })
    }
}

/// Prefixes, by path element. As deep as the longest prefix, which validation bounds.
#[derive(Debug)]
struct PrefixTrie<P> {
    children: HashMap<Box<str>, PrefixTrie<P>>,
    candidates: Vec<Candidate<P>>,
}

impl<P> Default for PrefixTrie<P> {
    fn default() -> Self {
        Self {
            children: HashMap::new(),
            candidates: Vec::new(),
        }
    }
}

impl<P> PrefixTrie<P> {
    /// Where the candidates of `prefix` are kept.
    fn place(&mut self, prefix: &str) -> &mut Vec<Candidate<P>> {
        let elements = prefix.trim_end_matches('/').split('/').skip(1);
        let node = elements.fold(self, |node, element| {
            node.children.entry(element.into()).or_default()
        });
        &mut node.candidates
    }

    /// The candidate that holds with the longest prefix of `rest`, the elements still to go (`None` at the end).
    fn find(
        &self,
        rest: Option<&str>,
        holds: &impl Fn(&&Candidate<P>) -> bool,
    ) -> Option<&Candidate<P>> {
        let deeper = rest.filter(|_| !self.children.is_empty()).and_then(|rest| {
            let (element, rest) = rest
                .split_once('/')
                .map_or((rest, None), |(element, rest)| (element, Some(rest)));
            self.children.get(element)?.find(rest, holds)
        });
        deeper.or_else(|| self.candidates.iter().find(holds))
    }
}
