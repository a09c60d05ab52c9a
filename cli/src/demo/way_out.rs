//! The demo's use cases of the explicit proxy: what is listed is reached, what is not is refused with the remedy.

use std::net::SocketAddr;

use anyhow::{bail, ensure};
use bytes::Bytes;
use http::{Response, StatusCode};

use super::{
    client::{Client, Tunnel},
    dns::{ALLOWED, INSIDE, REFUSED},
    self_test::{Outcome, Target, outcome, served_by, status},
};

/// Makes the calls, in both forms that clients of a proxy have.
pub(super) async fn run(target: &Target) -> Vec<Outcome> {
    let proxy = SocketAddr::new(target.address, target.proxy);
    vec![
        outcome(
            "egress, allowed",
            "GET http://allowed.example/",
            allowed(proxy).await,
        ),
        outcome(
            "egress, allowed tunnel",
            "CONNECT allowed.example:80",
            allowed_tunnel(proxy).await,
        ),
        outcome(
            "egress, refused",
            "GET http://refused.example/",
            refused(proxy).await,
        ),
        outcome(
            "egress, refused tunnel",
            "CONNECT refused.example:80",
            refused_tunnel(proxy).await,
        ),
        outcome(
            "egress, inside",
            "GET http://inside.example/",
            inside(proxy).await,
        ),
    ]
}

async fn allowed(proxy: SocketAddr) -> anyhow::Result<String> {
    let answer = Client::proxied(proxy, ALLOWED).await?.get("/", &[]).await?;
    served_by(&answer, "echo-v1")?;
    Ok("echo-v1 answered".into())
}

async fn allowed_tunnel(proxy: SocketAddr) -> anyhow::Result<String> {
    match Client::tunnel(proxy, ALLOWED).await? {
        Tunnel::Open(mut client) => {
            served_by(&client.get("/", &[]).await?, "echo-v1")?;
            Ok("echo-v1 answered in the tunnel".into())
        }
        Tunnel::Refused(answer) => bail!("no tunnel: {}", words(&answer)),
    }
}

async fn refused(proxy: SocketAddr) -> anyhow::Result<String> {
    let answer = Client::proxied(proxy, REFUSED).await?.get("/", &[]).await?;
    denied(&answer, ["host_not_listed", REFUSED, "a ServiceEntry"])
}

async fn refused_tunnel(proxy: SocketAddr) -> anyhow::Result<String> {
    match Client::tunnel(proxy, REFUSED).await? {
        Tunnel::Open(_) => bail!("there is a tunnel"),
        Tunnel::Refused(answer) => denied(&answer, ["host_not_listed", REFUSED, "a ServiceEntry"]),
    }
}

/// The host is listed, and allowPrivate opens this machine: not what else is not public.
async fn inside(proxy: SocketAddr) -> anyhow::Result<String> {
    let answer = Client::proxied(proxy, INSIDE).await?.get("/", &[]).await?;
    denied(
        &answer,
        [
            "address_refused",
            "leads to 169.254.169.254",
            "cloud metadata",
        ],
    )
}

/// 403, and all of these in the body: what was refused, and what to do.
fn denied(answer: &Response<Bytes>, parts: [&str; 3]) -> anyhow::Result<String> {
    status(answer, StatusCode::FORBIDDEN)?;
    let body = words(answer);
    for part in parts {
        ensure!(body.contains(part), "no {part:?} in: {body}");
    }
    let [code, ..] = parts;
    Ok(format!("403 {code}, with the remedy"))
}

fn words(answer: &Response<Bytes>) -> String {
    String::from_utf8_lossy(answer.body()).into_owned()
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use super::{super::echo, *};

    /// Without a proxy in between nothing may pass that needs one. What is allowed any server may answer.
    #[tokio::test]
    async fn an_echo_server_alone_refuses_nothing() {
        let local = tokio::task::LocalSet::new();
        local
            .run_until(async {
                let mut listeners = echo::bind(1).await.unwrap();
                let listener = listeners.pop().unwrap();
                let port = listener.local_addr().unwrap().port();
                tokio::task::spawn_local(echo::serve("echo-v1", listener));
                let proxy = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
                assert!(allowed(proxy).await.is_ok());
                assert!(refused(proxy).await.is_err());
                assert!(refused_tunnel(proxy).await.is_err());
                assert!(inside(proxy).await.is_err());
            })
            .await;
    }
}
