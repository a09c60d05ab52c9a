//! Filters: one file each, with its prepared form and its application.

pub mod cors;
pub mod credential;
pub mod headers;
pub mod mirror;
pub mod redirect;
pub mod rewrite;
