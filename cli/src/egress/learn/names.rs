//! Names for what was learned, which no other lesson gives: applying one replaces nothing that was applied of another, be it mended or
//! enforced since.

use crate::egress::{manifest, tally::Count};

/// Names of objects of one kind and namespace.
#[derive(Debug, Default)]
pub(super) struct Names {
    taken: manifest::Names,
    /// When the first and the last decision of the lesson were.
    period: String,
}

impl Names {
    /// For a lesson from decisions of this time.
    pub(super) fn of(period: Option<Count>) -> Self {
        let period = period.map(|count| format!("{} {}", count.first, count.last));
        Self {
            taken: manifest::Names::default(),
            period: period.unwrap_or_default(),
        }
    }

    /// A name for an object that says `content` about `stem`: the same for the same lesson, and for no other.
    pub(super) fn name(&mut self, stem: &str, content: &str) -> String {
        let content = format!("{}\n{stem}\n{content}", self.period);
        self.taken.name(&format!("learned-{stem}"), &content)
    }
}

#[cfg(test)]
mod tests {
    use jiff::Timestamp;

    use super::*;

    fn names(second: i64) -> Names {
        let time = Timestamp::from_second(second).unwrap();
        Names::of(Some(Count::once(time)))
    }

    #[test]
    fn a_name_is_of_its_lesson_and_content_alone() {
        let name = names(1).name("web", "a.example");
        assert_eq!(name, names(1).name("web", "a.example"));
        assert!(name.starts_with("learned-web-"), "{name}");
        for (second, stem, content) in [
            (2, "web", "a.example"),
            (1, "cron", "a.example"),
            (1, "web", "a.example b.example"),
        ] {
            assert_ne!(name, names(second).name(stem, content));
        }
        let mut twice = names(1);
        assert_ne!(twice.name("web", "a"), twice.name("web", "a"));
        let ports = vec!["tls-443"; 256].join("-");
        let long = names(1).name(&ports, "a.example");
        assert!(long.len() <= 253, "{long}");
        assert_ne!(long, names(1).name(&ports, "b.example"));
    }
}
