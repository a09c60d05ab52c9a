//! See the crate's README section in the workspace's README.
