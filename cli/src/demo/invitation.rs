//! What the demo says: where it is, and what to try.

use std::{fmt::Write as _, net::SocketAddr};

use super::dns::{ALLOWED, INSIDE, REFUSED};
use crate::output::{Columns, HEAD, styled};

/// Where things are.
pub(crate) struct Places {
    /// Host for URLs.
    pub(crate) host: String,
    pub(crate) http: u16,
    pub(crate) https: u16,
    /// The explicit proxy.
    pub(crate) proxy: SocketAddr,
    pub(crate) admin: String,
}

/// The text.
pub(crate) fn text(places: &Places) -> String {
    let Places {
        host,
        http,
        https,
        proxy,
        admin,
    } = places;
    let clear = format!("http://{host}:{http}");
    let secure = format!("https://{host}:{https}");
    let proxy = format!("http://{proxy}");
    let mut text = format!(
        "{}\n\n",
        styled(
            HEAD,
            "Two versions of an application behind one Gateway, and another one for the way out"
        )
    );
    writeln!(
        text,
        "  {clear}    {secure}    proxy {proxy}    admin {admin}\n"
    )
    .ok();
    writeln!(
        text,
        "{}\n\n{}",
        styled(HEAD, "Try, in another terminal"),
        tries(&clear, &secure)
    )
    .ok();
    writeln!(
        text,
        "{}\n\n{}",
        styled(
            HEAD,
            "And the way out, where only what is listed is reached"
        ),
        tries_out(&proxy)
    )
    .ok();
    let command = std::env::args()
        .next()
        .unwrap_or_else(|| "portcullis".into());
    let explain = "explain --config config/quickstart GET http://localhost:8080/split";
    writeln!(
        text,
        "{}\n\n  {command} {explain}\n",
        styled(HEAD, "Ask why, in the directory of the sources")
    )
    .ok();
    text + "config/quickstart of the sources holds these manifests, with the ports 8080, 8443 and 3128. Each request is logged \
            below.\nStop with Ctrl-C.\n\n"
}

fn tries(clear: &str, secure: &str) -> String {
    let mut columns = Columns::new(["  WHAT", "CALL"]);
    let mut row = |what: &str, call: String| columns.row([format!("  {what}"), call]);
    row("version 1 for everybody", format!("curl {clear}/"));
    row(
        "version 2 for testers",
        format!("curl -H 'user: test' {clear}/"),
    );
    row(
        "one of ten to version 2",
        format!(
            "for i in $(seq 50); do curl -s {clear}/split | grep '\"service\"'; done | sort | uniq -c"
        ),
    );
    row("a prefix cut off", format!("curl {clear}/api/items"));
    row(
        "a copy for version 2",
        format!("curl {clear}/mirror/me; curl -H 'user: test' {clear}/seen"),
    );
    row(
        "504 after half a second",
        format!("curl -i '{clear}/slow?delay_ms=5000'"),
    );
    row("to HTTPS", format!("curl -i {clear}/secure/page"));
    row("HTTPS", format!("curl -k {secure}/secure/page"));
    columns.to_string()
}

fn tries_out(proxy: &str) -> String {
    let mut columns = Columns::new(["  WHAT", "CALL"]);
    let mut row = |what: &str, call: String| columns.row([format!("  {what}"), call]);
    row(
        "a host that is listed",
        format!("curl -x {proxy} http://{ALLOWED}/"),
    );
    row(
        "the same by a tunnel (CONNECT)",
        format!("curl -p -x {proxy} http://{ALLOWED}/"),
    );
    row(
        "403, and what would allow it",
        format!("curl -x {proxy} http://{REFUSED}/"),
    );
    row(
        "the same for a tunnel, whose head says why",
        format!("curl -i -p -x {proxy} http://{REFUSED}/"),
    );
    row(
        "listed, but it leads inside",
        format!("curl -x {proxy} http://{INSIDE}/"),
    );
    columns.to_string()
}
