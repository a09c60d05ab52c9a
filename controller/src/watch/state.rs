//! What the store holds, and how long a snapshot of it waits for what cannot be read.

use std::collections::{BTreeMap, BTreeSet};

use k8s_openapi::api::core::v1::{ConfigMap, Secret};
use tokio::time::{Duration, Instant};

use super::{
    kind::{Kind, Referenced},
    object::AtVersion,
    referenced::Contents,
    store::{SeenStatus, StatusTarget},
};
use crate::{
    resources::{NotRead, ObjectKey, ObjectsNotRead, Redacted, Resources},
    translate::{InstalledApi, Obstacle, TokenIssuer, Unread},
};

/// How long the first snapshot waits for objects that cannot be read: one request that is not answered, and another one. What
/// proxies have is better than anything that is made without them.
const PATIENCE_AT_START: Duration = Duration::from_secs(15);

/// How long later ones wait for objects that were not referred to before. Whoever makes such references again and again holds up
/// everybody's tables for no longer.
const PATIENCE: Duration = Duration::from_millis(500);

/// What is known of a kind.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Known {
    /// Nothing yet, and what may go by it waits.
    #[default]
    Nothing,
    /// Nothing, as it cannot be read, and nothing waits for it.
    Unreadable,
    /// There is no such kind, so that it has no objects. That says nothing of those that it has once there is.
    NotInstalled,
    /// What was read of it, now or before it could not be read any more.
    Read,
}

#[derive(Debug, Default)]
pub(super) struct State {
    pub(super) resources: Resources,
    pub(super) installed: InstalledApi,
    /// Kinds that cannot be read, and that nothing waits for.
    pub(super) unread: BTreeMap<&'static str, Unread>,
    pub(super) token_issuer: Option<Result<TokenIssuer, String>>,
    /// Kinds, and what is known of them by now.
    pub(super) kinds: BTreeMap<&'static str, Known>,
    /// The versions that kinds are asked for at, where there are several.
    pub(super) versions: BTreeMap<&'static str, AtVersion>,
    pub(super) contents: BTreeMap<&'static str, Contents>,
    /// Whether there was a snapshot.
    pub(super) has_begun: bool,
    /// Until when the next one waits for objects that were never read; `None` if it does not.
    pub(super) waits_until: Option<Instant>,
    pub(super) statuses: BTreeMap<StatusTarget, SeenStatus>,
    /// Statuses that have changed since the writer last asked.
    pub(super) touched: BTreeSet<StatusTarget>,
}

impl State {
    /// What is known of a kind.
    pub(super) fn known<K: Kind>(&self) -> Known {
        self.kinds.get(K::NAME).copied().unwrap_or_default()
    }

    /// Whether all else goes on while a kind cannot be read.
    pub(super) fn goes_on_without<K: Kind>(&self, obstacle: Obstacle) -> bool {
        let is_refused = obstacle == Obstacle::Refused;
        K::OF_EGRESS
            || match self.known::<K>() {
                Known::Nothing => is_refused && K::MAY_BE_REFUSED,
                Known::Unreadable | Known::Read => is_refused,
                Known::NotInstalled => true,
            }
    }

    pub(super) fn contents<K: Referenced>(&mut self) -> &mut Contents {
        self.contents.entry(K::NAME).or_default()
    }

    pub(super) fn want<K: Referenced>(&mut self, wanted: &BTreeSet<ObjectKey>) {
        for key in self.contents::<K>().want(wanted) {
            K::objects(&mut self.resources).remove(&key);
        }
    }

    /// Whether a snapshot has to wait for objects that were never read. At first also for those that fail, as what proxies have may
    /// be made of them; never for those that may not be read.
    pub(super) fn waits(&mut self) -> bool {
        let has_begun = self.has_begun;
        let is_lacking = |how: NotRead| match how {
            NotRead::Pending => true,
            NotRead::Failing => !has_begun,
            NotRead::Refused | NotRead::Unlisted => false,
        };
        let mut never_read = self.contents.values().flat_map(Contents::never_read);
        let is_lacking = never_read.any(|(_, how)| is_lacking(how));
        if is_lacking {
            let patience = if has_begun {
                PATIENCE
            } else {
                PATIENCE_AT_START
            };
            let now = Instant::now();
            if now < *self.waits_until.get_or_insert(now + patience) {
                return true;
            }
        }
        self.waits_until = None;
        self.has_begun = true;
        false
    }

    pub(super) fn not_read(&mut self) -> ObjectsNotRead {
        ObjectsNotRead {
            secrets: self.not_read_of::<Redacted<Secret>>(),
            config_maps: self.not_read_of::<ConfigMap>(),
        }
    }

    fn not_read_of<K: Referenced>(&mut self) -> BTreeMap<ObjectKey, NotRead> {
        let is_followed = !self.unread.contains_key(K::NAME);
        let contents = self.contents::<K>();
        let unlisted = contents.unlisted().filter(|_| !is_followed);
        let unlisted = unlisted.map(|key| (key, NotRead::Unlisted));
        let all = contents.never_read().chain(unlisted);
        all.map(|(key, how)| (key.clone(), how)).collect()
    }
}
