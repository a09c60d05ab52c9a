//! Regular expressions, as automata that neither allocate nor lock while they match.

use std::{collections::HashMap, sync::Arc};

use regex_automata::{
    Anchored, MatchKind,
    dfa::{Automaton, StartKind, dense},
    nfa::thompson,
    util::{primitives::StateID, start, syntax},
};

/// Longest expression accepted, in bytes; the API allows 4,096 characters.
pub const MAX_PATTERN_BYTES: usize = 16 * 1024;
/// Most memory that one expression's automaton may take, in bytes.
pub const MAX_AUTOMATON_BYTES: usize = 1 << 20;
/// Most memory that all the automata of one table may take, in bytes.
pub const MAX_TABLE_AUTOMATA_BYTES: usize = 64 << 20;
/// Bounds the time that building one automaton takes.
const MAX_WORK_BYTES: usize = 4 << 20;

/// A regular expression that matches whole values.
///
/// Syntax is that of the `regex` crate over bytes: `\w`, `\d`, `\s`, `\b` and `(?i)` mean ASCII, as in RE2, unless
/// `(?u)` is given. It is compiled to a complete automaton of bounded size: matching takes one step per byte whatever
/// the expression, keeps no cache, and so neither allocates nor locks. What would need a larger automaton (as `.*a.{30}`)
/// is refused.
#[derive(Debug)]
pub struct Pattern {
    automaton: dense::DFA<Vec<u32>>,
    start: StateID,
}

/// Why an expression was refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PatternError {
    /// It is too long.
    #[error(
        "the regular expression has {found} bytes, at most {} are allowed",
        MAX_PATTERN_BYTES
    )]
    TooLong {
        /// Its length.
        found: usize,
    },
    /// Its automaton is too large.
    #[error(
        "the regular expression {0:?} is too complex: its automaton exceeds {limit} KiB; bounded repeats after `.*` are the usual cause",
        limit = MAX_AUTOMATON_BYTES / 1024
    )]
    TooComplex(String),
    /// It is not valid.
    #[error("the regular expression {pattern:?} is invalid: {reason}")]
    Invalid {
        /// The expression.
        pattern: String,
        /// What is wrong.
        reason: String,
    },
    /// The table holds too many.
    #[error(
        "all regular expressions of the table together exceed {limit} MiB of automata",
        limit = MAX_TABLE_AUTOMATA_BYTES >> 20
    )]
    TableFull,
}

impl Pattern {
    /// Compiles an expression.
    pub fn new(pattern: &str) -> Result<Self, PatternError> {
        if pattern.len() > MAX_PATTERN_BYTES {
            return Err(PatternError::TooLong {
                found: pattern.len(),
            });
        }
        let invalid = |reason: String| PatternError::Invalid {
            pattern: pattern.to_owned(),
            reason,
        };
        // All matches, not the leftmost-first one, so that "does one end at the end of the value" has the right answer.
        let config = dense::Config::new()
            .match_kind(MatchKind::All)
            .start_kind(StartKind::Anchored)
            .accelerate(false)
            .dfa_size_limit(Some(MAX_AUTOMATON_BYTES))
            .determinize_size_limit(Some(MAX_WORK_BYTES));
        let automaton = dense::Builder::new()
            .configure(config)
            .syntax(syntax::Config::new().unicode(false).utf8(false))
            .thompson(
                thompson::Config::new()
                    .utf8(false)
                    .nfa_size_limit(Some(MAX_AUTOMATON_BYTES)),
            )
            .build(pattern)
            .map_err(|error| {
                if error.is_size_limit_exceeded() {
                    PatternError::TooComplex(pattern.to_owned())
                } else {
                    invalid(root_cause(&error))
                }
            })?;
        let start = automaton
            .start_state(&start::Config::new().anchored(Anchored::Yes))
            .map_err(|error| invalid(error.to_string()))?;
        Ok(Self { automaton, start })
    }

    /// Whether the whole value matches.
    pub fn matches(&self, value: impl IntoIterator<Item = u8>) -> bool {
        let mut state = self.start;
        for byte in value {
            state = self.automaton.next_state(state, byte);
            if self.automaton.is_dead_state(state) || self.automaton.is_quit_state(state) {
                return false;
            }
        }
        self.automaton
            .is_match_state(self.automaton.next_eoi_state(state))
    }

    /// Memory taken, in bytes.
    pub fn memory(&self) -> usize {
        self.automaton.memory_usage()
    }
}

/// The innermost error, which is the one that speaks of the expression.
fn root_cause(error: &dyn std::error::Error) -> String {
    error.source().map_or_else(|| error.to_string(), root_cause)
}

/// The automata of one table: equal expressions share one, and their memory has a common bound.
#[derive(Debug, Default)]
pub(crate) struct PatternPool {
    /// Refusals are kept as well: to find that an expression is too complex is the costliest outcome of all.
    patterns: HashMap<Arc<str>, Result<Arc<Pattern>, PatternError>>,
    memory: usize,
}

impl PatternPool {
    /// The automaton of `text`: this pool's, else that of `previous`, else a new one.
    pub(crate) fn get(
        &mut self,
        previous: Option<&Self>,
        text: &str,
    ) -> Result<Arc<Pattern>, PatternError> {
        if let Some(known) = self.patterns.get(text) {
            return known.clone();
        }
        let known = previous.and_then(|pool| pool.patterns.get_key_value(text));
        let (text, outcome) = match known {
            Some((text, outcome)) => (text.clone(), outcome.clone()),
            None => (text.into(), Pattern::new(text).map(Arc::new)),
        };
        let memory = self.memory + outcome.as_ref().map_or(0, |pattern| pattern.memory());
        if memory > MAX_TABLE_AUTOMATA_BYTES {
            return Err(PatternError::TableFull);
        }
        self.memory = memory;
        self.patterns.insert(text, outcome.clone());
        outcome
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn matches(pattern: &str, value: &str) -> bool {
        Pattern::new(pattern).unwrap().matches(value.bytes())
    }

    #[test]
    fn the_whole_value_must_match() {
        assert!(matches("a|ab", "ab"));
        assert!(matches("/v[0-9]+/.*", "/v12/x/y"));
        assert!(!matches("/v[0-9]+", "/v12/x"));
        assert!(!matches("v[0-9]+", "/v12"));
        assert!(matches("^/a$", "/a"));
        assert!(matches("", ""));
        assert!(!matches("", "a"));
        assert!(matches("(?x) a b # comment", "ab"));
        assert!(matches(r"(?i)FOO\b.*", "foo bar"));
        assert!(matches("é+", "éé"));
        assert!(matches(r"(?u:\w)", "é"));
        assert!(!matches(r"\w\w", "é"));
    }

    #[test]
    fn bad_expressions_are_refused_with_a_reason() {
        let message = |pattern: &str| Pattern::new(pattern).unwrap_err().to_string();
        assert!(
            message("(a").contains("unclosed group"),
            "{}",
            message("(a")
        );
        assert!(Pattern::new(")|(").is_err());
        assert_eq!(
            Pattern::new(".*a.{30}").unwrap_err(),
            PatternError::TooComplex(".*a.{30}".to_owned())
        );
        assert_eq!(
            Pattern::new(&"a".repeat(20_000)).unwrap_err(),
            PatternError::TooLong { found: 20_000 }
        );
    }

    #[test]
    fn equal_expressions_share_an_automaton_also_with_the_previous_table() {
        let mut first = PatternPool::default();
        let a = first.get(None, "a+").unwrap();
        assert!(Arc::ptr_eq(&a, &first.get(None, "a+").unwrap()));
        let mut second = PatternPool::default();
        assert!(Arc::ptr_eq(&a, &second.get(Some(&first), "a+").unwrap()));
        assert_eq!(second.memory, a.memory());
    }

    #[test]
    fn a_table_has_a_bound() {
        let mut pool = PatternPool {
            memory: MAX_TABLE_AUTOMATA_BYTES,
            ..PatternPool::default()
        };
        assert_eq!(pool.get(None, "a").unwrap_err(), PatternError::TableFull);
    }
}
