//! The version of a table: a content hash that can follow a change without hashing what did not change.
//!
//! Each resource has a digest (SHA-256 of kind, key and JSON, first 16 bytes); the version is their sum modulo 2^128.
//! A sum does not depend on order, and a resource can be taken out of it again, so a delta costs what it changes. It
//! tells tables of one trusted controller apart; it is no signature.

use std::sync::Arc;

use serde::Serialize;
use sha2::{Digest as _, Sha256};

use crate::{
    resource::ResourceKind,
    table::{RoutingTable, TableVersion},
};

impl RoutingTable {
    /// Computes and sets the version. Every table is sealed once it is complete. Returns how long a frame with all of it is, in bytes
    /// ([`crate::frame::MAX_FRAME`]): no less than it is, and little more.
    pub fn seal(&mut self) -> usize {
        let sum = VersionSum::of(self);
        self.version = sum.version();
        let around = FRAME_AND_MAPS + self.gateway.as_str().len();
        sum.length.saturating_add(around)
    }

    /// The version that the content has, whatever `version` says.
    pub fn computed_version(&self) -> TableVersion {
        VersionSum::of(self).version()
    }
}

/// More bytes than a frame has around the resources of a table and the name of its Gateway: names of fields, and their braces.
const FRAME_AND_MAPS: usize = 512;

/// A version under construction.
pub(crate) struct VersionSum {
    sum: u128,
    /// Bytes of what was put in.
    length: usize,
    buffer: Vec<u8>,
}

impl VersionSum {
    /// The sum behind a version; `None` if it is not one (an unsealed table).
    pub(crate) fn parse(version: &TableVersion) -> Option<Self> {
        let canonical = version.0.len() == 32 && !version.0.starts_with('+');
        let sum = u128::from_str_radix(&version.0, 16)
            .ok()
            .filter(|_| canonical)?;
        Some(Self {
            sum,
            length: 0,
            buffer: Vec::new(),
        })
    }

    /// Hashes a whole table.
    pub(crate) fn of(table: &RoutingTable) -> Self {
        let mut sum = Self {
            sum: 0,
            length: 0,
            buffer: Vec::new(),
        };
        let gateway = table.gateway.as_str();
        sum.sum = sum.digest("table", gateway, &table.schema);
        sum.add(ResourceKind::Settings, gateway, &table.settings);
        for (key, value) in &table.listeners {
            sum.add(ResourceKind::Listener, key.as_str(), value);
        }
        for (key, value) in &table.routes {
            sum.add(ResourceKind::Route, key.as_str(), value);
        }
        for (key, value) in &table.clusters {
            sum.add(ResourceKind::Cluster, key.as_str(), value);
        }
        for (key, value) in &table.endpoints {
            sum.add(ResourceKind::Endpoints, key.as_str(), value);
        }
        for (key, value) in &table.certificates {
            sum.add(ResourceKind::Certificate, key.as_str(), value);
        }
        for (key, value) in &table.credentials {
            sum.add(ResourceKind::Credential, key.as_str(), value);
        }
        for (key, value) in &table.entries {
            sum.add(ResourceKind::Entry, key.as_str(), value);
        }
        for (key, value) in &table.policies {
            sum.add(ResourceKind::Policy, key.as_str(), value);
        }
        for (key, value) in &table.workloads {
            sum.add(ResourceKind::Workload, key.as_str(), value);
        }
        sum
    }

    /// Puts a resource in.
    pub(crate) fn add<V: Serialize>(&mut self, kind: ResourceKind, key: &str, value: &Arc<V>) {
        self.sum = self
            .sum
            .wrapping_add(self.digest(kind.as_str(), key, value.as_ref()));
        // In a frame quotes, colon and comma stand around the key, which is less than kind and zeros in the buffer.
        self.length += self.buffer.len();
    }

    /// Takes a resource out.
    pub(crate) fn subtract<V: Serialize>(&mut self, kind: ResourceKind, key: &str, value: &Arc<V>) {
        self.sum = self
            .sum
            .wrapping_sub(self.digest(kind.as_str(), key, value.as_ref()));
    }

    /// As it stands in a table.
    pub(crate) fn version(&self) -> TableVersion {
        TableVersion(format!("{:032x}", self.sum).into())
    }

    fn digest<V: Serialize>(&mut self, kind: &str, key: &str, value: &V) -> u128 {
        self.buffer.clear();
        for part in [kind, key] {
            self.buffer.extend_from_slice(part.as_bytes());
            self.buffer.push(0);
        }
        // Our types have string keys and derived serialisers only, and a Vec takes every write: there is no error.
        let written = serde_json::to_writer(&mut self.buffer, value);
        debug_assert!(written.is_ok(), "a resource that is not JSON: {written:?}");
        Sha256::digest(&self.buffer)
            .iter()
            .take(16)
            .fold(0, |sum, byte| sum << 8 | u128::from(*byte))
    }
}
