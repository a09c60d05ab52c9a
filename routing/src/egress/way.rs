//! How a destination is reached, as far as policies ask: through which entry, and whose word that is.

use super::{
    decide::{Question, Seen},
    entry::EntryProtocol,
    opened::Opened,
    policy::PolicyScope,
};

/// See the module.
#[derive(Clone, Copy, Debug)]
pub(super) struct Way<'a> {
    /// What opens it; `None` for what nothing opens, and for what a route leads to the inside.
    opened: Option<Opened<'a>>,
    /// The Gateway's namespace.
    gateway: &'a str,
    /// Whether everybody's word is taken for where a name leads.
    is_trusted: bool,
}

impl<'a> Way<'a> {
    /// Through an entry, or none. `gateway` is the namespace of the Gateway.
    pub(super) fn new(opened: Option<Opened<'a>>, gateway: &'a str) -> Self {
        Self {
            opened,
            gateway,
            is_trusted: false,
        }
    }

    /// The same, as if the entry led where its hosts do.
    pub(super) fn as_named(self) -> Self {
        Self {
            is_trusted: true,
            ..self
        }
    }

    /// The hosts of the entry.
    pub(super) fn hosts(&self) -> &'a [String] {
        self.opened.map_or(&[], |opened| &opened.entry.hosts)
    }

    /// Whether requests inside a tunnel will be asked about one by one.
    pub(super) fn is_inspected(&self, seen: &Seen<'_>) -> bool {
        let protocol = self.opened.map(|opened| opened.port.protocol);
        *seen == Seen::Tunnel && protocol == Some(EntryProtocol::Http)
    }

    /// The entry, if it leads elsewhere than its hosts and ports say and that is not for whoever wrote the policy to answer for.
    /// Who runs the Gateway, or the namespace that a policy is of, has led it there himself; else whoever may write entries would
    /// lead a name that is allowed wherever he likes.
    pub(super) fn astray(&self, of: &PolicyScope, question: &Question<'_>) -> Option<Opened<'a>> {
        let opened = self.opened.filter(|_| !self.is_trusted)?;
        let home = opened.entry.order.namespace.as_str();
        let is_own = || match of {
            PolicyScope::Gateway => false,
            PolicyScope::Namespace(namespace) => namespace == home,
        };
        let is_ours = home == self.gateway || is_own();
        (!is_ours && opened.leads_elsewhere(question)).then_some(opened)
    }
}
