//! Who calls: taken once per connection, or per request where a token says so, so that a later table does not make somebody else
//! of whoever is connected. It may make nobody of him, and give his pod other labels.
//!
//! A certificate goes before a token, and a token before the address: what was proved before what was concluded.

use std::{
    collections::BTreeMap,
    net::IpAddr,
    rc::Rc,
    sync::Arc,
    time::{Duration, SystemTime},
};

use portcullis_routing::{
    ListenerKey,
    egress::{self, CompiledEgress, Workload},
};

use super::{certificate, token::Proof};
use crate::{state::Snapshot, tls::client::ClientIdentity};

/// Who a caller is, and how that is known.
#[derive(Clone, Debug)]
pub enum Identity {
    /// The pod that has the address it calls from.
    Pod(Arc<Workload>),
    /// The service account of its client certificate.
    Certificate(Proven, Shown),
    /// The service account of its token.
    Token(Proven),
}

/// A service account whose caller has proved to be it.
#[derive(Clone, Debug)]
pub struct Proven {
    account: Arc<Account>,
    /// The pod that has the address it calls from, if that is one of this service account.
    workload: Option<Arc<Workload>>,
}

/// The certificate that proves it, and the listener that believes it.
#[derive(Clone, Debug)]
pub struct Shown {
    identity: Rc<ClientIdentity>,
    listener: ListenerKey,
}

/// A service account, as a token or a certificate names it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Account {
    pub(crate) namespace: Box<str>,
    pub(crate) name: Box<str>,
    /// The pod that it is bound to.
    pub(crate) pod: Option<Box<str>>,
    /// Until when that holds, in seconds of Unix time; `None` is for as long as the connection does.
    pub(crate) until: Option<u64>,
    /// By what its token was believed.
    pub(crate) proof: Option<Arc<Proof>>,
}

impl Identity {
    /// Who calls from `address`, as far as the table knows.
    pub(crate) fn of_address(egress: &CompiledEgress, address: IpAddr) -> Option<Rc<Self>> {
        let workload = egress.workload(address)?;
        Some(Rc::new(Self::Pod(Arc::clone(workload))))
    }

    /// Whose client certificate it is, which `listener` has verified; `None` if that names no service account of ours.
    pub(crate) fn of_certificate(
        egress: &CompiledEgress,
        identity: &Rc<ClientIdentity>,
        listener: &ListenerKey,
        address: IpAddr,
    ) -> Option<Rc<Self>> {
        let trust_domain = &egress.settings().trust_domain;
        let account = certificate::account(identity.certificate()?, trust_domain)?;
        let shown = Shown {
            identity: Rc::clone(identity),
            listener: listener.clone(),
        };
        let proven = Proven::new(egress, Arc::new(account), address);
        Some(Rc::new(Self::Certificate(proven, shown)))
    }

    /// Who has a token of `account`.
    pub(crate) fn of_token(
        egress: &CompiledEgress,
        account: Arc<Account>,
        address: IpAddr,
    ) -> Rc<Self> {
        Rc::new(Self::Token(Proven::new(egress, account, address)))
    }

    /// The same caller, as far as the table tells now; the same value, if that says nothing new. Whoever was known by an address alone
    /// is nobody any more once that belongs to another pod, or to none; and so is who has proved it by what is not believed any more.
    pub(crate) fn renewed(
        self: &Rc<Self>,
        snapshot: &Snapshot,
        address: IpAddr,
    ) -> Option<Rc<Self>> {
        let now = snapshot.compiled.egress()?.workload(address);
        let renewed = match &**self {
            Self::Pod(known) => {
                let now = now.filter(|now| {
                    now.namespace == known.namespace
                        && now.service_account == known.service_account
                        && now.pod == known.pod
                })?;
                (!Arc::ptr_eq(now, known)).then(|| Self::Pod(Arc::clone(now)))
            }
            Self::Certificate(known, shown) => {
                shown.is_believed(snapshot).then_some(())?;
                let renewed = known.renewed(now);
                renewed.map(|proven| Self::Certificate(proven, shown.clone()))
            }
            Self::Token(known) => {
                let keys = snapshot.token_keys.as_ref()?;
                let proof = known.account.proof.as_ref()?;
                keys.stand_by(proof).then_some(())?;
                known.renewed(now).map(Self::Token)
            }
        };
        Some(renewed.map_or_else(|| Rc::clone(self), Rc::new))
    }

    /// For how long it is still known who this is; `None` is without end.
    pub(crate) fn remaining(&self) -> Option<Duration> {
        let until = match self {
            Self::Pod(_) => None,
            Self::Certificate(proven, _) | Self::Token(proven) => proven.account.until,
        };
        until.map(|until| {
            let now = SystemTime::UNIX_EPOCH.elapsed().unwrap_or_default();
            Duration::from_secs(until).saturating_sub(now)
        })
    }

    /// How it is known: stable, for machines.
    pub(crate) fn kind(&self) -> &'static str {
        match self {
            Self::Pod(_) => "pod",
            Self::Certificate(..) => "certificate",
            Self::Token(_) => "token",
        }
    }

    /// Its namespace.
    pub(crate) fn namespace(&self) -> &str {
        match self {
            Self::Pod(workload) => &workload.namespace,
            Self::Certificate(proven, _) | Self::Token(proven) => &proven.account.namespace,
        }
    }

    /// Its service account.
    pub(crate) fn service_account(&self) -> &str {
        match self {
            Self::Pod(workload) => &workload.service_account,
            Self::Certificate(proven, _) | Self::Token(proven) => &proven.account.name,
        }
    }

    /// The name of its pod, if one is known.
    pub(crate) fn pod(&self) -> Option<&str> {
        match self {
            Self::Pod(workload) => Some(&workload.pod),
            Self::Certificate(proven, _) | Self::Token(proven) => proven.pod(),
        }
    }

    /// As decisions want it.
    pub(crate) fn caller(&self) -> egress::Caller<'_> {
        egress::Caller {
            namespace: self.namespace(),
            service_account: self.service_account(),
            labels: self.labels(),
        }
    }

    fn labels(&self) -> Option<&BTreeMap<String, String>> {
        self.workload().map(|workload| &workload.labels)
    }

    fn workload(&self) -> Option<&Arc<Workload>> {
        match self {
            Self::Pod(workload) => Some(workload),
            Self::Certificate(proven, _) | Self::Token(proven) => proven.workload.as_ref(),
        }
    }
}

/// Whether these, the second of whom is what has become of the first, are the same to all rules.
pub(crate) fn are_same(known: Option<&Identity>, now: Option<&Identity>) -> bool {
    let (Some(known), Some(now)) = (known, now) else {
        return known.is_none() && now.is_none();
    };
    match (known.workload(), now.workload()) {
        (Some(known), Some(now)) => Arc::ptr_eq(known, now),
        (known, now) => known.is_none() && now.is_none(),
    }
}

impl Shown {
    fn is_believed(&self, snapshot: &Snapshot) -> bool {
        let wanted = snapshot.tls.identity(&self.listener);
        wanted.is_some_and(|wanted| self.identity.satisfies(wanted))
    }
}

impl Proven {
    fn new(egress: &CompiledEgress, account: Arc<Account>, address: IpAddr) -> Self {
        let workload = account.workload(egress.workload(address)).cloned();
        Self { account, workload }
    }

    /// With the pod that has the address now; `None` if that is the one of before.
    fn renewed(&self, now: Option<&Arc<Workload>>) -> Option<Self> {
        let now = self.account.workload(now);
        let is_known = match (now, &self.workload) {
            (Some(now), Some(known)) => Arc::ptr_eq(now, known),
            (now, known) => now.is_none() && known.is_none(),
        };
        (!is_known).then(|| Self {
            account: Arc::clone(&self.account),
            workload: now.cloned(),
        })
    }

    fn pod(&self) -> Option<&str> {
        let bound = self.account.pod.as_deref();
        bound.or_else(|| self.workload.as_ref().map(|workload| &*workload.pod))
    }
}

impl Account {
    /// The pod, if it is one of this service account.
    fn workload<'t>(&self, pod: Option<&'t Arc<Workload>>) -> Option<&'t Arc<Workload>> {
        pod.filter(|pod| *pod.namespace == *self.namespace && *pod.service_account == *self.name)
    }
}
