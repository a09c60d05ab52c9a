//! What the parts of a rule are translated with.

use portcullis_routing::Backend;

use crate::translate::{
    Backends, Context, GrantSubject,
    backend::{BackendReference, Reach, Traffic},
    field::Field,
    problem::{Problem, Problems},
};

/// One rule under translation: where its references start from, and where its problems are collected.
pub(super) struct Scope<'r, 'a> {
    pub(super) ctx: &'r Context<'a>,
    pub(super) backends: &'r mut Backends<'a>,
    pub(super) from: GrantSubject<'r>,
    pub(super) traffic: Traffic,
    pub(super) reach: &'r Reach,
    pub(super) problems: Problems,
}

impl Scope<'_, '_> {
    /// The backend that a reference of the rule leads to.
    pub(super) fn resolve(
        &mut self,
        reference: &BackendReference,
        field: &Field<'_>,
    ) -> Result<Backend, Problem> {
        self.resolve_for(self.traffic, reference, field)
    }

    /// The same, for requests to which a credential is added or not.
    pub(super) fn resolve_for(
        &mut self,
        traffic: Traffic,
        reference: &BackendReference,
        field: &Field<'_>,
    ) -> Result<Backend, Problem> {
        let (from, of) = (self.from, (traffic, self.reach));
        self.backends.resolve(self.ctx, reference, from, of, field)
    }
}
