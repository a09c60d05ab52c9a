//! Passive outlier detection: endpoints that refuse, reset or do not answer get no requests for a while.
//!
//! Out at once when a connect fails; out after a few broken or unanswered requests in a row. The pause doubles with
//! each ejection. After it a connect is tried in the background, so that no request pays for the test, and then one
//! request at a time is let through until one is answered. A cluster never loses more than half of its endpoints.

use std::{cell::Cell, rc::Rc, time::Duration};

use tokio::time::Instant;

/// First pause.
const BASE_PAUSE: Duration = Duration::from_secs(1);
/// Longest pause; also how long an endpoint must be well until its past is forgotten.
const MAX_PAUSE: Duration = Duration::from_secs(30);
/// Broken or unanswered requests in a row that eject.
const MAX_FAILURES: u32 = 3;
/// For as long after an answer in a tunnel an endpoint is not to blame for one that it closes without a word.
pub(super) const CREDIT: Duration = Duration::from_secs(5);
/// Largest share of a cluster's endpoints that may be out, in percent.
const MAX_EJECTED_PERCENT: usize = 50;

/// How many endpoints of one cluster are out.
#[derive(Debug, Default)]
pub(super) struct OutlierDetector {
    ejected: Cell<usize>,
    /// Of all clusters of the worker.
    total: Rc<Cell<usize>>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// Takes requests.
    Well,
    /// Takes none.
    Ejected,
    /// Reachable again: takes one request at a time.
    Trial { busy: bool },
}

/// The health of one endpoint.
#[derive(Debug)]
pub(super) struct Health {
    state: Cell<State>,
    failures: Cell<u32>,
    ejections: Cell<u32>,
    well_since: Cell<Option<Instant>>,
    /// It had something to say in a tunnel.
    spoke: Cell<Option<Instant>>,
}

impl Default for Health {
    fn default() -> Self {
        Self {
            state: Cell::new(State::Well),
            failures: Cell::new(0),
            ejections: Cell::new(0),
            well_since: Cell::new(None),
            spoke: Cell::new(None),
        }
    }
}

impl Health {
    /// Whether the endpoint may be chosen.
    pub(super) fn is_available(&self) -> bool {
        matches!(self.state.get(), State::Well | State::Trial { busy: false })
    }

    /// Whether the endpoint is out, be it for a pause or on trial.
    pub(super) fn is_ejected(&self) -> bool {
        self.state.get() != State::Well
    }

    /// A request was given to the endpoint.
    pub(super) fn request_started(&self) {
        if self.state.get() == (State::Trial { busy: false }) {
            self.state.set(State::Trial { busy: true });
        }
    }

    /// A request has left the endpoint, however it ended.
    pub(super) fn request_ended(&self) {
        if self.state.get() == (State::Trial { busy: true }) {
            self.state.set(State::Trial { busy: false });
        }
    }

    /// The connect after the pause succeeded.
    pub(super) fn reachable(&self) {
        if self.state.get() == State::Ejected {
            self.state.set(State::Trial { busy: false });
        }
    }

    /// The endpoint has said something in a tunnel.
    pub(super) fn spoke(&self) {
        self.spoke.set(Some(Instant::now()));
    }

    /// Whether it has just now.
    pub(super) fn has_spoken(&self) -> bool {
        let spoke = self.spoke.get();
        spoke.is_some_and(|spoke| spoke.elapsed() < CREDIT)
    }

    /// How long to stay away after one more failed connect. Jitter keeps workers from testing an endpoint in step.
    pub(super) fn next_pause(&self) -> Duration {
        if self
            .well_since
            .get()
            .is_some_and(|since| since.elapsed() >= MAX_PAUSE)
        {
            self.ejections.set(0);
        }
        let pause = BASE_PAUSE
            .saturating_mul(1 << self.ejections.get().min(5))
            .min(MAX_PAUSE);
        self.ejections.set(self.ejections.get().saturating_add(1));
        self.well_since.set(None);
        pause.mul_f64(1.0 - 0.2 * fastrand::f64())
    }
}

impl OutlierDetector {
    /// For one more cluster; `total` counts the ejected endpoints of all of them.
    pub(super) fn new(total: Rc<Cell<usize>>) -> Self {
        Self {
            ejected: Cell::new(0),
            total,
        }
    }

    /// The endpoint answered a request. True: that ends its trial. An answer to a request from before the ejection does
    /// not.
    pub(super) fn answered(&self, health: &Health) -> bool {
        match health.state.get() {
            State::Well => health.failures.set(0),
            State::Ejected => {}
            State::Trial { .. } => {
                self.readmit(health);
                return true;
            }
        }
        false
    }

    /// A request to the endpoint broke or was not answered. Some: it is ejected for this long.
    pub(super) fn request_failed(&self, health: &Health, endpoints: usize) -> Option<Duration> {
        health.failures.set(health.failures.get().saturating_add(1));
        let on_trial = matches!(health.state.get(), State::Trial { .. });
        if on_trial || health.failures.get() >= MAX_FAILURES {
            self.connect_failed(health, endpoints)
        } else {
            None
        }
    }

    /// A connect to the endpoint failed. Some: it is ejected for this long; `None`: it is out already, or too many are.
    pub(super) fn connect_failed(&self, health: &Health, endpoints: usize) -> Option<Duration> {
        match health.state.get() {
            State::Ejected => return None,
            State::Trial { .. } => {}
            State::Well if self.ejected.get() >= endpoints * MAX_EJECTED_PERCENT / 100 => {
                return None;
            }
            State::Well => {
                self.ejected.set(self.ejected.get() + 1);
                self.total.set(self.total.get() + 1);
            }
        }
        health.state.set(State::Ejected);
        Some(health.next_pause())
    }

    /// The endpoint is no longer one of the cluster's.
    pub(super) fn removed(&self, health: &Health) {
        if health.is_ejected() {
            self.readmit(health);
        }
    }

    fn readmit(&self, health: &Health) {
        health.state.set(State::Well);
        health.failures.set(0);
        health.well_since.set(Some(Instant::now()));
        self.ejected.set(self.ejected.get().saturating_sub(1));
        self.total.set(self.total.get().saturating_sub(1));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Whether the pause is `seconds`, but for the jitter.
    fn is_about(pause: Option<Duration>, seconds: f64) -> bool {
        let pause = pause.expect("ejected").as_secs_f64();
        pause > 0.79 * seconds && pause <= seconds
    }

    #[tokio::test(start_paused = true)]
    async fn a_refused_connect_ejects_at_once_and_the_pause_doubles_to_a_cap() {
        let (detector, health) = (OutlierDetector::default(), Health::default());
        assert!(is_about(detector.connect_failed(&health, 4), 1.0));
        assert!(!health.is_available());
        for expected in [2.0, 4.0, 8.0, 16.0, 30.0, 30.0] {
            assert!(is_about(Some(health.next_pause()), expected), "{expected}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn requests_eject_only_after_several_failures_in_a_row() {
        let (detector, health) = (OutlierDetector::default(), Health::default());
        for _ in 0..4 {
            assert_eq!(detector.request_failed(&health, 4), None);
            assert_eq!(detector.request_failed(&health, 4), None);
            detector.answered(&health);
        }
        detector.request_failed(&health, 4);
        detector.request_failed(&health, 4);
        assert!(detector.request_failed(&health, 4).is_some());
    }

    #[tokio::test(start_paused = true)]
    async fn never_more_than_half_and_never_the_last() {
        let detector = OutlierDetector::default();
        let healths: Vec<_> = (0..5).map(|_| Health::default()).collect();
        let ejected = healths
            .iter()
            .filter(|health| detector.connect_failed(health, 5).is_some())
            .count();
        assert_eq!(ejected, 2);
        assert_eq!(
            OutlierDetector::default().connect_failed(&Health::default(), 1),
            None
        );
        detector.removed(&healths[0]);
        assert!(
            detector.connect_failed(&healths[4], 5).is_some(),
            "a removed endpoint frees its share"
        );
    }

    #[tokio::test(start_paused = true)]
    async fn the_way_back_is_one_request_at_a_time() {
        let (detector, health) = (OutlierDetector::default(), Health::default());
        detector.connect_failed(&health, 2);
        health.reachable();
        assert!(health.is_available());
        health.request_started();
        assert!(!health.is_available(), "the trial is under way");
        health.request_ended();
        assert!(
            health.is_available(),
            "an outcome that nobody reported allows another trial"
        );
        health.request_started();
        assert!(detector.answered(&health));
        health.request_ended();
        assert!(health.is_available() && !health.is_ejected());
    }

    #[tokio::test(start_paused = true)]
    async fn an_answer_from_before_the_ejection_does_not_end_it() {
        let (detector, health) = (OutlierDetector::default(), Health::default());
        detector.connect_failed(&health, 2);
        assert!(!detector.answered(&health));
        assert!(!health.is_available());
    }

    #[tokio::test(start_paused = true)]
    async fn a_failed_trial_ejects_again_for_longer_and_health_forgets() {
        let (detector, health) = (OutlierDetector::default(), Health::default());
        detector.connect_failed(&health, 2);
        health.reachable();
        health.request_started();
        assert!(is_about(detector.request_failed(&health, 2), 2.0));
        health.reachable();
        detector.answered(&health);
        tokio::time::advance(MAX_PAUSE).await;
        assert!(is_about(detector.connect_failed(&health, 2), 1.0));
    }
}
