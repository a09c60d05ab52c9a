//! What every end-to-end program needs: processes, certificates, clients, backends, tables and reports.

pub(crate) mod backend;
pub(crate) mod binaries;
pub(crate) mod certificate;
pub(crate) mod client;
pub(crate) mod debian;
pub(crate) mod digest;
pub(crate) mod dns;
pub(crate) mod load;
pub(crate) mod machine;
pub(crate) mod process;
pub(crate) mod proxy;
pub(crate) mod report;
pub(crate) mod statistics;
pub(crate) mod streams;
pub(crate) mod table;
pub(crate) mod watch;
