//! Paths to fields of a manifest, such as `spec.rules[0].backendRefs[1].port`, built without allocating.

use std::fmt;

/// A field, as a step below its parent. It is written out only when there is something to tell about it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Field<'a> {
    parent: Option<&'a Field<'a>>,
    step: Step<'a>,
}

#[derive(Clone, Copy, Debug)]
enum Step<'a> {
    Name(&'a str),
    Index(usize),
}

impl<'a> Field<'a> {
    /// A field of the object itself.
    pub(crate) const fn root(name: &'a str) -> Self {
        Self {
            parent: None,
            step: Step::Name(name),
        }
    }

    /// The field `name` below this one.
    pub(crate) const fn child(&'a self, name: &'a str) -> Self {
        Self {
            parent: Some(self),
            step: Step::Name(name),
        }
    }

    /// Element number `index` of this list.
    pub(crate) const fn at(&'a self, index: usize) -> Self {
        Self {
            parent: Some(self),
            step: Step::Index(index),
        }
    }
}

impl fmt::Display for Field<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(parent) = self.parent {
            parent.fmt(f)?;
        }
        match self.step {
            Step::Name(name) if self.parent.is_some() => write!(f, ".{name}"),
            Step::Name(name) => f.write_str(name),
            Step::Index(index) => write!(f, "[{index}]"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn written_like_kubernetes_does() {
        let spec = Field::root("spec");
        let rules = spec.child("rules");
        let rule = rules.at(2);
        let refs = rule.child("backendRefs");
        let backend = refs.at(0);
        assert_eq!(
            backend.child("port").to_string(),
            "spec.rules[2].backendRefs[0].port"
        );
    }
}
