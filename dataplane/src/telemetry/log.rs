//! The proxy's own log: `tracing`, on standard error, as text or JSON. What libraries say through `log` ends up there too.

use std::{
    env,
    io::{self, IsTerminal},
};

use tracing_subscriber::{EnvFilter, fmt, util::TryInitError};

/// Environment variable that chooses what is logged, such as `info,portcullis_dataplane=debug`.
pub const FILTER_VARIABLE: &str = "PORTCULLIS_LOG";

/// The default of [`FILTER_VARIABLE`]. The HTTP libraries report each client's mistake as a warning or an error; these
/// are counted and stand in the access log.
const DEFAULT_FILTER: &str = "info,pingora_core=off,h2=warn,rustls=warn,hyper=warn";

/// How the log looks.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
pub enum LogFormat {
    /// For people.
    #[default]
    Text,
    /// For machines: one JSON object per line.
    Json,
}

/// Switches the log on for the whole process. Fails if there is a log already.
pub fn init(format: LogFormat) -> Result<(), TryInitError> {
    use tracing_subscriber::util::SubscriberInitExt;

    let filter =
        EnvFilter::try_from_env(FILTER_VARIABLE).unwrap_or_else(|_| EnvFilter::new(DEFAULT_FILTER));
    let coloured =
        io::stderr().is_terminal() && env::var_os("NO_COLOR").is_none_or(|it| it.is_empty());
    let log = fmt()
        .with_env_filter(filter)
        .with_ansi(coloured)
        .with_writer(io::stderr);
    match format {
        LogFormat::Text => log.finish().try_init(),
        LogFormat::Json => log.json().flatten_event(true).finish().try_init(),
    }
}
