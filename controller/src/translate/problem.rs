//! What is wrong with a route, and what follows from it.

use super::field::Field;
use crate::{
    finding::{Finding, ObjectRef},
    status::reason,
};

/// One mistake, in words for the person who wrote the manifest.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Problem {
    /// What follows from it.
    pub(crate) effect: Effect,
    /// The condition reason it leads to, or for warnings a code of the same style.
    pub(crate) code: &'static str,
    /// The field that is wrong.
    pub(crate) field: String,
    /// What is wrong.
    pub(crate) message: String,
    /// What to do about it.
    pub(crate) remedy: String,
}

/// What follows from a problem.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Effect {
    /// The rule cannot be carried out: it answers 500. Leads to `Accepted=False`, or to `PartiallyInvalid` if other
    /// rules of the route are good.
    RejectsRule,
    /// A reference leads nowhere: its share answers 500, a mirror is left out. Leads to `ResolvedRefs=False`.
    BreaksReference,
    /// Nothing: it works, but perhaps not as meant.
    Warns,
}

impl Problem {
    /// A value that is malformed or not supported; the rule is rejected.
    pub(crate) fn unsupported(
        field: &Field<'_>,
        message: impl Into<String>,
        remedy: impl Into<String>,
    ) -> Self {
        Self::new(
            Effect::RejectsRule,
            reason::UNSUPPORTED_VALUE,
            field,
            message,
            remedy,
        )
    }

    /// Filters that cannot stand together; the rule is rejected.
    pub(crate) fn incompatible(
        field: &Field<'_>,
        message: impl Into<String>,
        remedy: impl Into<String>,
    ) -> Self {
        Self::new(
            Effect::RejectsRule,
            reason::INCOMPATIBLE_FILTERS,
            field,
            message,
            remedy,
        )
    }

    /// A reference that leads nowhere, with the reason for `ResolvedRefs`.
    pub(crate) fn reference(
        reason: &'static str,
        field: &Field<'_>,
        message: impl Into<String>,
        remedy: impl Into<String>,
    ) -> Self {
        Self::new(Effect::BreaksReference, reason, field, message, remedy)
    }

    /// Something that works but is worth telling.
    pub(crate) fn warning(
        code: &'static str,
        field: &Field<'_>,
        message: impl Into<String>,
        remedy: impl Into<String>,
    ) -> Self {
        Self::new(Effect::Warns, code, field, message, remedy)
    }

    fn new(
        effect: Effect,
        code: &'static str,
        field: &Field<'_>,
        message: impl Into<String>,
        remedy: impl Into<String>,
    ) -> Self {
        Self {
            effect,
            code,
            field: field.to_string(),
            message: message.into(),
            remedy: remedy.into(),
        }
    }
}

impl Problem {
    /// As a finding about `object`.
    pub(crate) fn into_finding(self, object: &ObjectRef) -> Finding {
        let Self {
            effect,
            code,
            field,
            message,
            remedy,
        } = self;
        match effect {
            Effect::Warns => object.warning(code, field, message, remedy),
            Effect::RejectsRule | Effect::BreaksReference => {
                object.error(code, field, message, remedy)
            }
        }
    }
}

/// The problems of one rule, in the order in which they were found.
#[derive(Debug, Default)]
pub(crate) struct Problems(pub(crate) Vec<Problem>);

impl Problems {
    /// Notes a problem.
    pub(crate) fn tell(&mut self, problem: Problem) {
        self.0.push(problem);
    }

    /// The value, or nothing after noting why there is none.
    pub(crate) fn keep<T>(&mut self, result: Result<T, Problem>) -> Option<T> {
        result.map_err(|problem| self.tell(problem)).ok()
    }

    /// Whether the rule cannot be carried out.
    pub(crate) fn reject_rule(&self) -> bool {
        self.0
            .iter()
            .any(|problem| problem.effect == Effect::RejectsRule)
    }
}
