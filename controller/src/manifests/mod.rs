//! Reads manifests into resources.
