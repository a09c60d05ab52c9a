//! What is wrong with a ServiceEntry or an EgressPolicy, and what follows from it.

use super::conflict::{Outcome, Standing};
use crate::{
    finding::{Finding, ObjectRef},
    status::{ConditionSet, ConditionStatus, reason},
    translate::{Context, field::Field},
};

/// The faults of one object, in the order in which they were found.
#[derive(Debug)]
pub(super) struct Faults {
    pub(super) object: ObjectRef,
    /// Why the object as a whole is not accepted.
    refused: Option<Finding>,
    /// Parts of it that are left out, while the others are served.
    dropped: Vec<Finding>,
    /// Part of it is served in another way than it says, as another object comes first.
    lost: Vec<Finding>,
    /// The other way round.
    won: Vec<Finding>,
    /// What changes nothing.
    told: Vec<Finding>,
}

/// What is wrong with a value, and what to do about it.
pub(super) struct Fault {
    code: &'static str,
    message: String,
    remedy: String,
}

impl Fault {
    /// A value that nobody could serve.
    pub(super) fn invalid(message: impl Into<String>, remedy: impl Into<String>) -> Self {
        Self {
            code: reason::INVALID,
            message: message.into(),
            remedy: remedy.into(),
        }
    }

    /// A value that means something, but not here.
    pub(super) fn unsupported(message: impl Into<String>, remedy: impl Into<String>) -> Self {
        Self {
            code: reason::UNSUPPORTED_VALUE,
            message: message.into(),
            remedy: remedy.into(),
        }
    }

    /// More than a namespace may have.
    pub(super) fn beyond_quota(message: impl Into<String>, remedy: impl Into<String>) -> Self {
        Self {
            code: reason::QUOTA_EXCEEDED,
            message: message.into(),
            remedy: remedy.into(),
        }
    }

    /// Something that is referred to is not there.
    pub(super) fn not_found(message: impl Into<String>, remedy: impl Into<String>) -> Self {
        Self {
            code: reason::TARGET_NOT_FOUND,
            message: message.into(),
            remedy: remedy.into(),
        }
    }

    /// The same, with what follows from it.
    pub(super) fn followed_by(mut self, consequence: &str) -> Self {
        self.message.push_str(consequence);
        self
    }

    /// As a finding about a field of `object`.
    fn at(self, object: &ObjectRef, field: &Field<'_>) -> Finding {
        object.error(self.code, field.to_string(), self.message, self.remedy)
    }
}

impl Faults {
    /// None yet.
    pub(super) fn new(object: ObjectRef) -> Self {
        Self {
            object,
            refused: None,
            dropped: Vec::new(),
            lost: Vec::new(),
            won: Vec::new(),
            told: Vec::new(),
        }
    }

    /// The object as a whole cannot be accepted. The first reason counts; others are told.
    pub(super) fn refuse(&mut self, field: &Field<'_>, fault: Fault) {
        let finding = fault.at(&self.object, field);
        if self.refused.is_none() {
            self.refused = Some(finding);
        } else {
            self.told.push(finding);
        }
    }

    /// A part of the object is left out.
    pub(super) fn drop(&mut self, field: &Field<'_>, fault: Fault) {
        self.dropped.push(fault.at(&self.object, field));
    }

    /// The value at `field`, or nothing after noting why it is left out.
    pub(super) fn keep<T>(&mut self, field: &Field<'_>, value: Result<T, Fault>) -> Option<T> {
        let fault = match value {
            Ok(value) => return Some(value),
            Err(fault) => fault,
        };
        self.drop(field, fault);
        None
    }

    /// The values of a list that are good; the others are left out.
    pub(super) fn keep_each<'s, S, T>(
        &mut self,
        field: &Field<'_>,
        specs: &'s [S],
        mut read: impl FnMut(&'s S) -> Result<T, Fault>,
    ) -> Vec<T> {
        let specs = specs.iter().enumerate();
        specs
            .filter_map(|(index, spec)| self.keep(&field.at(index), read(spec)))
            .collect()
    }

    /// It works, but hardly as meant.
    pub(super) fn warn(
        &mut self,
        code: &'static str,
        field: &Field<'_>,
        message: impl Into<String>,
        remedy: impl Into<String>,
    ) {
        let finding = self
            .object
            .warning(code, field.to_string(), message, remedy);
        self.told.push(finding);
    }

    /// Worth knowing.
    pub(super) fn note(
        &mut self,
        code: &'static str,
        field: &Field<'_>,
        message: impl Into<String>,
        remedy: impl Into<String>,
    ) {
        let finding = self.object.note(code, field.to_string(), message, remedy);
        self.told.push(finding);
    }

    /// Worth knowing, found elsewhere.
    pub(super) fn tell(&mut self, finding: Finding) {
        self.told.push(finding);
    }

    /// Another object says otherwise.
    pub(super) fn conflict(&mut self, Outcome { finding, standing }: Outcome) {
        match standing {
            Standing::First => self.won.push(finding),
            Standing::Second => self.lost.push(finding),
        }
    }

    /// Whether the object as a whole is refused.
    pub(super) fn is_refused(&self) -> bool {
        self.refused.is_some()
    }

    /// Reports them.
    pub(super) fn report(&self, ctx: &Context<'_>) {
        let causes = self.refused.iter().chain(&self.dropped);
        causes
            .chain(&self.lost)
            .chain(&self.won)
            .chain(&self.told)
            .for_each(|finding| ctx.report(finding.clone()));
    }

    /// The condition of type `accepted` that follows from them.
    pub(super) fn conditions(
        &self,
        accepted: &'static str,
        generation: Option<i64>,
    ) -> ConditionSet {
        use ConditionStatus::{False, True};
        let mut conditions = ConditionSet::new(generation);
        if let Some(refused) = &self.refused {
            // What is left out is mostly why nothing is left.
            let message = texts([refused].into_iter().chain(&self.dropped));
            conditions.set(accepted, False, refused.code, message);
            return conditions;
        }
        let reason = if !self.dropped.is_empty() {
            reason::PARTIALLY_INVALID
        } else if !self.lost.is_empty() {
            reason::CONFLICTED
        } else {
            reason::ACCEPTED
        };
        let told = self.lost.iter().chain(&self.won).chain(&self.told);
        let faults = texts(self.dropped.iter().chain(told));
        let message = if faults.is_empty() {
            "Accepted".to_owned()
        } else {
            format!("Accepted. {faults}")
        };
        conditions.set(accepted, True, reason, message);
        conditions
    }
}

fn texts<'f>(findings: impl Iterator<Item = &'f Finding>) -> String {
    let texts: Vec<_> = findings.map(Finding::text).collect();
    texts.join(". ")
}
