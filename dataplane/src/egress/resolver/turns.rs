//! Whose turn it is to ask for a name.
//!
//! A question that is never answered holds its turn for long. So nobody has more than a share of them, and those who want names
//! of which nothing is known leave some to those whose names were known until now.

use std::{cell::RefCell, collections::HashMap, sync::Arc, time::Duration};

use foldhash::fast::RandomState;
use tokio::{
    sync::{AcquireError, OwnedSemaphorePermit, Semaphore},
    time::timeout,
};

/// Questions that are under way at once.
pub(super) const MAX_QUESTIONS: usize = 256;
/// Those of one namespace.
pub(super) const SHARE: usize = MAX_QUESTIONS / 4;
/// Those for names of which nothing is known.
pub(super) const MAX_UNKNOWN: usize = MAX_QUESTIONS - SHARE;
/// How long a question waits for its turn.
pub(super) const TURN_TIMEOUT: Duration = Duration::from_secs(1);
/// Namespaces of which more is kept only if they all ask at once.
const MAX_IDLE: usize = MAX_QUESTIONS;

/// The questions of one worker that are under way.
pub(super) struct Turns {
    all: Arc<Semaphore>,
    unknown: Arc<Semaphore>,
    /// By the namespace of whoever wants the name.
    shares: RefCell<HashMap<Box<str>, Arc<Semaphore>, RandomState>>,
}

/// Leave for one question, until it is dropped.
pub(super) struct Turn {
    _share: OwnedSemaphorePermit,
    _unknown: Option<OwnedSemaphorePermit>,
    _of_all: OwnedSemaphorePermit,
}

impl Default for Turns {
    fn default() -> Self {
        Self {
            all: Arc::new(Semaphore::new(MAX_QUESTIONS)),
            unknown: Arc::new(Semaphore::new(MAX_UNKNOWN)),
            shares: RefCell::default(),
        }
    }
}

impl Turns {
    /// Leave for a question of somebody in `namespace`, in the order in which it is asked for; `None` if there are too many
    /// questions. `is_known`: there is an old answer.
    pub(super) async fn take(&self, namespace: &str, is_known: bool) -> Option<Turn> {
        let taken = timeout(TURN_TIMEOUT, self.wait(namespace, is_known)).await;
        taken.ok()?.ok()
    }

    /// The same for a name that is known, if nobody has to wait for it.
    pub(super) fn try_take(&self, namespace: &str) -> Option<Turn> {
        Some(Turn {
            _share: self.share(namespace).try_acquire_owned().ok()?,
            _unknown: None,
            _of_all: Arc::clone(&self.all).try_acquire_owned().ok()?,
        })
    }

    /// Whoever waits for more than a share holds nothing that others wait for.
    async fn wait(&self, namespace: &str, is_known: bool) -> Result<Turn, AcquireError> {
        let share = self.share(namespace).acquire_owned().await?;
        let unknown = if is_known {
            None
        } else {
            Some(Arc::clone(&self.unknown).acquire_owned().await?)
        };
        Ok(Turn {
            _share: share,
            _unknown: unknown,
            _of_all: Arc::clone(&self.all).acquire_owned().await?,
        })
    }

    fn share(&self, namespace: &str) -> Arc<Semaphore> {
        let mut shares = self.shares.borrow_mut();
        if let Some(share) = shares.get(namespace) {
            return Arc::clone(share);
        }
        if shares.len() >= MAX_IDLE {
            // Who has a turn, or waits for one, has the semaphore as well.
            shares.retain(|_, share| Arc::strong_count(share) > 1);
        }
        let share = Arc::new(Semaphore::new(SHARE));
        shares.insert(namespace.into(), Arc::clone(&share));
        share
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn nobody_has_more_than_a_share_and_what_is_known_goes_before() {
        let turns = Turns::default();
        let mut taken = Vec::new();
        for namespace in ["a", "b", "c"] {
            for _ in 0..SHARE {
                taken.push(turns.take(namespace, false).await.unwrap());
            }
            assert!(turns.take(namespace, true).await.is_none());
            assert!(turns.try_take(namespace).is_none());
        }
        // What is left is for names that are known.
        assert!(turns.take("d", false).await.is_none());
        for _ in 0..SHARE / 2 {
            taken.push(turns.take("d", true).await.unwrap());
            taken.push(turns.try_take("e").unwrap());
        }
        assert!(turns.take("f", true).await.is_none());
        assert!(turns.try_take("f").is_none());

        drop(taken.remove(0));
        taken.push(turns.take("f", false).await.unwrap());
        drop(taken);
        assert_eq!(turns.all.available_permits(), MAX_QUESTIONS);
        assert_eq!(turns.unknown.available_permits(), MAX_UNKNOWN);
    }

    #[tokio::test]
    async fn a_namespace_that_asks_is_remembered_and_others_are_not() {
        let turns = Turns::default();
        let _kept = turns.try_take("kept");
        for number in 0..3 * MAX_IDLE {
            turns.try_take(&number.to_string()).unwrap();
            assert!(turns.shares.borrow().len() <= MAX_IDLE);
        }
        assert_eq!(turns.share("kept").available_permits(), SHARE - 1);
    }
}
