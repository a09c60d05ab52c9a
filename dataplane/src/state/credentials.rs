//! Credentials in the form that requests need them: parsed once, on the control thread, however many rules name them.

use std::{collections::BTreeMap, sync::Arc};

use portcullis_routing::{CredentialKey, RoutingTable, filter::Credential};

use crate::filter::credential::PreparedCredential;

/// The credentials of a table.
#[derive(Clone, Debug, Default)]
pub struct Credentials {
    by_key: BTreeMap<CredentialKey, Known>,
}

/// A credential, with the resource it was made of to recognise an unchanged one.
#[derive(Clone, Debug)]
struct Known {
    resource: Arc<Credential>,
    /// Its clones share the value. In words why there is none.
    prepared: Result<PreparedCredential, String>,
}

impl Credentials {
    /// Prepares the credentials of `table`. Those that are unchanged since `previous` are shared with it.
    pub fn prepare(previous: &Self, table: &RoutingTable) -> Self {
        let all = table.credentials.iter().map(|(key, resource)| {
            let known = previous.by_key.get(key);
            let known = known.filter(|known| known.resource == *resource).cloned();
            let known = known.unwrap_or_else(|| Known {
                resource: Arc::clone(resource),
                prepared: PreparedCredential::prepare(resource),
            });
            (key.clone(), known)
        });
        Self {
            by_key: all.collect(),
        }
    }

    /// What a rule that names it adds to requests, or why it cannot.
    pub fn get(&self, key: &CredentialKey) -> Result<PreparedCredential, String> {
        let known = self.by_key.get(key);
        let known = known.ok_or_else(|| format!("{key} is not in the table"))?;
        known.prepared.clone()
    }
}
