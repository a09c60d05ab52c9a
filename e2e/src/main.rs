//! `cargo e2e`: end-to-end checks and benchmarks against the real binaries.
fn main() {}
