//! The certificates of the controller and of the data planes, kept in Secrets of the cluster.
//!
//! One Secret in the controller's namespace holds the authority; whichever replica comes first makes it. Every replica
//! signs its own certificate, which it keeps to itself. The one that leads makes a Secret for each Gateway, in the
//! Gateway's namespace, and renews it in time. What certificates there are, and when they are due, is [`ca`](crate::ca)'s
//! business.

mod authority;
mod identities;

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use crate::publish::PublisherTls;

pub(crate) use self::{authority::AuthorityKeeper, identities::IdentityKeeper};

/// How often it is looked whether a certificate is due. Certificates hold for weeks at least.
const CHECK: Duration = Duration::from_hours(1);

/// What they are kept in.
const KIND: &str = "Secret";

/// Time for one request.
const TIMEOUT: Duration = Duration::from_secs(10);

/// Whose certificates are kept, and where.
#[derive(Clone, Debug)]
pub struct CertificateOptions {
    /// Namespace of the authority's Secret: the controller's own.
    pub namespace: String,
    /// Name of the authority's Secret.
    pub secret: String,
    /// DNS names that data planes know this controller by.
    pub names: Vec<String>,
    /// Where this replica's own certificate goes.
    pub tls: Arc<PublisherTls>,
}

/// What the Secrets are found by.
const COMPONENT_LABEL: &str = "portcullis.dev/component";
const COMPONENT: &str = "certificates";

/// The labels of every Secret that is made here.
fn labels() -> BTreeMap<String, String> {
    [
        ("app.kubernetes.io/managed-by", "portcullis"),
        (COMPONENT_LABEL, COMPONENT),
    ]
    .map(|(name, value)| (name.to_owned(), value.to_owned()))
    .into()
}
