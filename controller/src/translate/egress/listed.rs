//! Which names are there for whom, with their ports: what policies name is held against that.
//!
//! There may be thousands of both, so what is there is looked through once, and a question is a few look-ups.

use std::collections::{BTreeSet, HashMap, HashSet};

use portcullis_routing::egress::ExportedTo;

/// Names that are meant: a single one, or all below a suffix.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Pattern<'a> {
    /// The name, or the suffix.
    pub(super) suffix: &'a str,
    pub(super) is_wildcard: bool,
}

impl<'a> Pattern<'a> {
    /// All names.
    pub(super) const EVERYTHING: Self = Self {
        suffix: "",
        is_wildcard: true,
    };

    /// A name in normal form, or `*.suffix`.
    pub(super) fn of(text: &'a str) -> Self {
        let suffix = text.strip_prefix("*.");
        Self {
            suffix: suffix.unwrap_or(text),
            is_wildcard: suffix.is_some(),
        }
    }

    /// The names below it.
    pub(super) const fn below(self) -> Self {
        Self {
            is_wildcard: true,
            ..self
        }
    }
}

/// What a name ends with after each of its dots, the longest first, and in the end nothing, as all names do.
fn endings(name: &str) -> impl Iterator<Item = &str> {
    let dots = name.match_indices('.');
    let last = (!name.is_empty()).then_some("");
    dots.filter_map(|(dot, _)| name.get(dot + 1..)).chain(last)
}

/// For whom something is there.
#[derive(Clone, Copy, Debug)]
pub(super) enum Audience<'a> {
    /// Whoever calls, known or not.
    Everybody,
    /// The workloads of these namespaces.
    Namespaces(&'a [String]),
}

impl<'a> From<&'a ExportedTo> for Audience<'a> {
    fn from(exported_to: &'a ExportedTo) -> Self {
        match exported_to {
            ExportedTo::All => Self::Everybody,
            ExportedTo::Namespaces(namespaces) => Self::Namespaces(namespaces),
        }
    }
}

/// For whom a question is asked.
#[derive(Clone, Debug)]
pub(super) enum Callers<'a> {
    /// Anybody.
    Any,
    /// The workloads of any of these namespaces.
    Of(Vec<&'a str>),
}

/// All for whom a name is there.
#[derive(Debug, Default)]
struct Audiences<'a> {
    everybody: bool,
    namespaces: HashSet<&'a str>,
}

impl<'a> Audiences<'a> {
    fn add(&mut self, audience: Audience<'a>) {
        match audience {
            Audience::Everybody => self.everybody = true,
            Audience::Namespaces(namespaces) => {
                self.namespaces
                    .extend(namespaces.iter().map(String::as_str));
            }
        }
    }

    fn has(&self, callers: &Callers<'_>) -> bool {
        self.everybody
            || match callers {
                Callers::Any => !self.namespaces.is_empty(),
                Callers::Of(namespaces) => {
                    let mut namespaces = namespaces.iter();
                    namespaces.any(|it| self.namespaces.contains(it))
                }
            }
    }
}

/// What will be asked about; all else is not remembered.
#[derive(Debug, Default)]
pub(super) struct Asked<'a> {
    /// Names and suffixes.
    pub(super) names: HashSet<&'a str>,
    pub(super) ports: HashSet<u16>,
}

impl Asked<'_> {
    /// Those of these ports that will be asked about, and that there are any at all.
    pub(super) fn at(&self, ports: BTreeSet<u16>) -> Vec<Option<u16>> {
        let any = (!ports.is_empty()).then_some(None);
        let asked = ports.into_iter().filter(|it| self.ports.contains(it));
        asked.map(Some).chain(any).collect()
    }
}

/// By name or suffix, then by port, or at whatever port.
type Places<'a> = HashMap<&'a str, HashMap<Option<u16>, Audiences<'a>>>;

/// Names that are there.
#[derive(Debug, Default)]
pub(super) struct Names<'a> {
    exact: Places<'a>,
    wildcards: Places<'a>,
    /// By suffix: whatever ends so, of the others.
    below: Places<'a>,
}

impl<'a> Names<'a> {
    /// One more, as far as that is asked about, at these ports, or at whatever port.
    pub(super) fn add(
        &mut self,
        asked: &Asked<'_>,
        name: Pattern<'a>,
        ports: &[Option<u16>],
        audience: Audience<'a>,
    ) {
        if ports.is_empty() {
            return;
        }
        let Pattern {
            suffix,
            is_wildcard,
        } = name;
        let add = |places: &mut Places<'a>, suffix| {
            let places = places.entry(suffix).or_default();
            for port in ports {
                places.entry(*port).or_default().add(audience);
            }
        };
        if is_wildcard {
            // What is asked about may be below it.
            add(&mut self.wildcards, suffix);
        } else if asked.names.contains(suffix) {
            add(&mut self.exact, suffix);
        }
        let own = is_wildcard.then_some(suffix);
        for ending in own.into_iter().chain(endings(suffix)) {
            if asked.names.contains(ending) {
                add(&mut self.below, ending);
            }
        }
    }

    /// Whether some name that is meant is there for some of the callers, at this port if one is given.
    pub(super) fn has(&self, name: Pattern<'_>, port: Option<u16>, callers: &Callers<'_>) -> bool {
        let is_in = |places: &Places<'_>, suffix: &str| {
            let audiences = places.get(suffix).and_then(|it| it.get(&port));
            audiences.is_some_and(|it| it.has(callers))
        };
        let own = if name.is_wildcard {
            &self.below
        } else {
            &self.exact
        };
        is_in(own, name.suffix) || endings(name.suffix).any(|it| is_in(&self.wildcards, it))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn endings_come_after_dots() {
        let of = |name| endings(name).collect::<Vec<_>>();
        assert_eq!(of("a.b.example"), ["b.example", "example", ""]);
        assert_eq!(of("example"), [""]);
        assert_eq!(of(""), [""; 0]);
    }

    #[test]
    fn patterns_meet_where_they_have_a_name_in_common() {
        let all = Callers::Any;
        for (there, asked, meet) in [
            ("a.example", "a.example", true),
            ("a.example", "*.example", true),
            ("a.example", "example", false),
            ("a.example", "b.example", false),
            ("*.example", "a.example", true),
            ("*.example", "a.b.example", true),
            ("*.example", "example", false),
            ("*.example", "*.example", true),
            ("*.example", "*.b.example", true),
            ("*.b.example", "*.example", true),
            ("*.b.example", "*.c.example", false),
            ("b.example", "*.b.example", false),
        ] {
            let pattern = Pattern::of(asked);
            let asked = Asked {
                names: HashSet::from([pattern.suffix, ""]),
                ports: HashSet::from([443]),
            };
            let mut names = Names::default();
            let ports = [None, Some(443)];
            names.add(&asked, Pattern::of(there), &ports, Audience::Everybody);
            assert_eq!(names.has(pattern, None, &all), meet, "{there} {pattern:?}");
            assert_eq!(names.has(pattern, Some(443), &all), meet);
            assert!(!names.has(pattern, Some(80), &all));
            assert!(names.has(Pattern::EVERYTHING, None, &all));
        }
    }

    #[test]
    fn what_is_there_for_others_is_not_there() {
        let asked = Asked {
            names: HashSet::from(["a.example"]),
            ports: HashSet::new(),
        };
        let (shop, nobody) = (["shop".to_owned()], []);
        let name = Pattern::of("a.example");
        let mut names = Names::default();
        names.add(&asked, name, &[None], Audience::Namespaces(&nobody));
        assert!(!names.has(name, None, &Callers::Any));
        names.add(&asked, name, &[None], Audience::Namespaces(&shop));
        assert!(names.has(name, None, &Callers::Any));
        assert!(names.has(name, None, &Callers::Of(vec!["apps", "shop"])));
        assert!(!names.has(name, None, &Callers::Of(vec!["apps"])));
    }
}
