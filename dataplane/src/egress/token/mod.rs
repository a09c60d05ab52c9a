//! Tokens of service accounts in `Proxy-Authorization`: what was sent, and whose it is.
//!
//! `Bearer` takes the token as it is, `Basic` as the password of whatever user (RFC 7617), which is how clients send what stands
//! in the URL of their proxy. A token that is not believed is refused: its sender is not taken for the pod that it calls from.

mod keys;

use std::{
    borrow::Cow,
    cell::RefCell,
    collections::HashMap,
    mem,
    rc::Rc,
    str,
    sync::Arc,
    time::{Duration, SystemTime},
};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use foldhash::fast::RandomState;
use http::{HeaderMap, header};
use sha2::{Digest as _, Sha256};

pub use self::keys::TokenKeys;
pub(crate) use self::keys::{Fault, Proof};
use super::caller::Account;

/// Tokens that are known at once: half of them used since the others were.
const MAX_KNOWN: usize = 4096;
/// Refusals that are known at once.
const MAX_REFUSED: usize = 512;
/// Seconds for which a token stays refused without another look.
const REFUSED_FOR: u64 = 5;

/// What a worker knows of the tokens that it has seen: a client pays for the verification once. Clients' tokens are not kept,
/// only their hashes.
#[derive(Debug, Default)]
pub(crate) struct Tokens(RefCell<Seen>);

/// Believed and refused tokens stand apart, so that a flood of bad ones costs nobody else anything.
#[derive(Debug)]
struct Seen {
    /// What they were held against.
    keys: Option<Arc<TokenKeys>>,
    believed: Known<Arc<Account>>,
    refused: Known<Rc<Fault>>,
}

impl Default for Seen {
    fn default() -> Self {
        Self {
            keys: None,
            believed: Known::new(MAX_KNOWN),
            refused: Known::new(MAX_REFUSED),
        }
    }
}

impl Tokens {
    /// Whose token `headers` carry; `None` if they carry none.
    pub(crate) fn account(
        &self,
        keys: &Arc<TokenKeys>,
        headers: &HeaderMap,
    ) -> Result<Option<Arc<Account>>, Rc<Fault>> {
        let mut sent = headers.get_all(header::PROXY_AUTHORIZATION).iter();
        let Some(credentials) = sent.next() else {
            return Ok(None);
        };
        if sent.next().is_some() {
            return Err(Rc::new(Fault::Repeated));
        }
        let now = SystemTime::UNIX_EPOCH.elapsed();
        let now = now.as_ref().map_or(0, Duration::as_secs);
        self.check(keys, credentials.as_bytes(), now).map(Some)
    }

    /// `now` is in seconds of Unix time.
    fn check(
        &self,
        keys: &Arc<TokenKeys>,
        credentials: &[u8],
        now: u64,
    ) -> Result<Arc<Account>, Rc<Fault>> {
        let mut seen = self.0.borrow_mut();
        if !seen.keys.as_ref().is_some_and(|it| Arc::ptr_eq(it, keys)) {
            *seen = Seen {
                keys: Some(Arc::clone(keys)),
                ..Seen::default()
            };
        }
        // Of the token alone: whoever sends it in ever other words has it verified once.
        let token = token(credentials)?;
        let hash: Hash = Sha256::digest(token.as_bytes()).into();
        if let Some(account) = seen.believed.get(&hash, now) {
            return Ok(account);
        }
        if let Some(fault) = seen.refused.get(&hash, now) {
            return Err(fault);
        }
        match keys.verify(&token, now) {
            Ok(verified) => {
                let account = Arc::clone(&verified.account);
                seen.believed.insert(hash, verified.account, verified.until);
                Ok(account)
            }
            Err(fault) => {
                let fault = Rc::new(fault);
                seen.refused
                    .insert(hash, Rc::clone(&fault), now + REFUSED_FOR);
                Err(fault)
            }
        }
    }
}

/// The token of a `Proxy-Authorization`.
fn token(credentials: &[u8]) -> Result<Cow<'_, str>, Fault> {
    let credentials = str::from_utf8(credentials).map_err(|_| Fault::Scheme)?;
    let (scheme, rest) = credentials.split_once(' ').ok_or(Fault::Scheme)?;
    let rest = rest.trim();
    if scheme.eq_ignore_ascii_case("bearer") {
        return Ok(rest.into());
    }
    if !scheme.eq_ignore_ascii_case("basic") {
        return Err(Fault::Scheme);
    }
    let pair = STANDARD.decode(rest).map_err(|_| Fault::Scheme)?;
    let mut pair = String::from_utf8(pair).map_err(|_| Fault::Scheme)?;
    let user = pair.find(':').ok_or(Fault::Scheme)?;
    pair.drain(..=user);
    Ok(pair.into())
}

/// SHA-256.
type Hash = [u8; 32];

/// Two generations: what is used goes to the younger one, and when that is full the elder one is forgotten.
#[derive(Debug)]
struct Known<T> {
    young: HashMap<Hash, Timed<T>, RandomState>,
    old: HashMap<Hash, Timed<T>, RandomState>,
    /// Of both.
    most: usize,
}

#[derive(Debug)]
struct Timed<T> {
    what: T,
    until: u64,
}

impl<T: Clone> Known<T> {
    fn new(most: usize) -> Self {
        Self {
            young: HashMap::default(),
            old: HashMap::default(),
            most,
        }
    }

    fn get(&mut self, hash: &Hash, now: u64) -> Option<T> {
        if let Some(known) = self.young.get(hash) {
            return (now < known.until).then(|| known.what.clone());
        }
        let known = self.old.remove(hash).filter(|known| now < known.until)?;
        let what = known.what.clone();
        self.insert(*hash, known.what, known.until);
        Some(what)
    }

    fn insert(&mut self, hash: Hash, what: T, until: u64) {
        if self.young.len() >= self.most / 2 && !self.young.contains_key(&hash) {
            self.old = mem::take(&mut self.young);
        }
        self.young.insert(hash, Timed { what, until });
    }
}

#[cfg(test)]
pub(crate) mod testing;
#[cfg(test)]
mod tests;
