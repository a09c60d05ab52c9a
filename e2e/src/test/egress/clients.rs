//! Whatever program asks, and however: the listed host is reached, and nothing else.

use anyhow::{Context, Result, ensure};
use serde_json::json;

use super::{
    GATEWAY, MORE, WEATHER, addresses, apply, in_url,
    pods::{Asked, PROGRAMS, Pod, Programs, TUNNELS_ALL, ask_all},
    world::{self, FORBIDDEN, FORBIDDEN_ADDRESSES, World},
};
use crate::test::bed::Bed;

/// What the tutorials ask for.
const PATH: &str = "/data/2.5/weather?q=Mannheim";

/// The scenario.
pub(super) async fn run(bed: &Bed) -> Result<()> {
    let programs = Programs::get().await?;
    let world = World::open(world::TTL).await?;
    bed.apply(GATEWAY).await?;
    bed.apply(WEATHER).await?;
    bed.apply(MORE).await?;
    let gateways = addresses(bed).await?;
    apply(bed, &[Programs::sources(&world.authority.pem())]).await?;
    let proxy = |gateway: &str| format!("http://{}:3128", in_url(gateway));
    let [v4, v6] = &gateways;
    let [proxied_v4, proxied_v6] = [v4, v6].map(|gateway| {
        let url = proxy(gateway);
        [
            ("HTTP_PROXY", url.clone()),
            ("HTTPS_PROXY", url.clone()),
            ("http_proxy", url.clone()),
            ("https_proxy", url),
            ("NODE_USE_ENV_PROXY", "1".to_owned()),
            (
                "JAVA_TOOL_OPTIONS",
                format!("-Dhttp.proxyHost={gateway} -Dhttp.proxyPort=3128 -Dhttps.proxyHost={gateway} -Dhttps.proxyPort=3128"),
            ),
        ]
    });
    let set = |environment: &[(&'static str, String)]| -> Vec<(&'static str, String)> {
        environment.to_vec()
    };
    let pod = |name, environment: Vec<(&'static str, String)>| {
        let environment: Vec<_> = environment
            .iter()
            .map(|(name, value)| (*name, value.as_str()))
            .collect();
        // What they resolve by themselves they ask the world for, not the cluster.
        let dns = json!({ "dnsPolicy": "None", "dnsConfig": { "nameservers": [world::DNS] } });
        programs.pod(name, &environment, dns)
    };
    apply(
        bed,
        &[
            pod("proxied-v4", set(&proxied_v4)),
            pod("proxied-v6", set(&proxied_v6)),
            pod("direct", Vec::new()),
        ],
    )
    .await?;
    let [proxied_v4, proxied_v6, direct] =
        ["proxied-v4", "proxied-v6", "direct"].map(|name| Pod { bed, name });
    for pod in [&proxied_v4, &proxied_v6, &direct] {
        pod.ready().await?;
    }
    control(&direct, &world).await?;
    let before = world.connections(FORBIDDEN)?;
    until_open(&direct, &gateways).await?;
    for pod in [&proxied_v4, &proxied_v6] {
        for (name, command) in PROGRAMS {
            program(pod, name, command)
                .await
                .with_context(|| format!("{name} in {}", pod.name))?;
        }
    }
    for gateway in &gateways {
        forms(&direct, gateway)
            .await
            .with_context(|| format!("by {gateway}"))?;
        by_hand(&direct, gateway).await?;
    }
    let after = world.connections(FORBIDDEN)?;
    ensure!(
        after == before,
        "the forbidden host had {} connections",
        after - before
    );
    Ok(())
}

/// Without the Gateway everything is reached: it is there, and what is refused later is refused by nobody else.
async fn control(direct: &Pod<'_>, world: &World) -> Result<()> {
    for host in [world::WEATHER, FORBIDDEN] {
        for family in ["--ipv4", "--ipv6"] {
            for url in [
                format!("http://{host}/"),
                format!("https://{host}/"),
                format!("http://{host}:8080/"),
            ] {
                let asked = direct.curl(&format!("{family} {url}")).await?;
                let echo = asked.answer.map(|answer| answer.echo()).unwrap_or_default();
                ensure!(
                    echo["server"] == host,
                    "without the Gateway, {family} {url}: {}",
                    asked.printed
                );
            }
        }
    }
    ensure!(
        world.connections(FORBIDDEN)? > 0,
        "the forbidden host counts no connections"
    );
    Ok(())
}

/// Waits until the Gateway serves what is listed.
async fn until_open(direct: &Pod<'_>, gateways: &[String]) -> Result<()> {
    for gateway in gateways {
        let proxy = format!("--proxy http://{}:3128", in_url(gateway));
        direct
            .bed
            .until("the listed hosts are open", async || {
                for host in [world::WEATHER, world::WEATHER_V6] {
                    direct
                        .curl(&format!("{proxy} https://{host}/"))
                        .await?
                        .reached(host)?;
                }
                Ok(())
            })
            .await?;
    }
    Ok(())
}

/// One program, with the proxy in its environment.
async fn program(pod: &Pod<'_>, name: &str, command: &str) -> Result<()> {
    let urls = [world::WEATHER, FORBIDDEN].map(|host| {
        [
            format!("http://{host}{PATH}"),
            format!("https://{host}{PATH}"),
        ]
    });
    let all: Vec<String> = urls
        .iter()
        .flatten()
        .map(|url| format!("'{url}'"))
        .collect();
    let printed = pod.shell(&format!("{command} {}", all.join(" "))).await?;
    let line = |url: &str| {
        printed
            .lines()
            .find_map(|line| line.strip_prefix(url))
            .with_context(|| format!("nothing is said of {url}: {printed}"))
    };
    let [allowed, refused] = &urls;
    for url in allowed {
        let line = line(url)?;
        let encrypted = format!("\"encrypted\":{}", url.starts_with("https:"));
        for part in [
            "\"server\":\"api.openweathermap.org\"",
            &format!("\"path\":\"{PATH}\""),
            &encrypted,
        ] {
            ensure!(line.contains(part), "{url}: no {part} in {line}");
        }
    }
    let [clear, tls] = refused;
    let told = line(clear)?;
    let words = ["403", "host_not_listed", FORBIDDEN];
    ensure!(
        name == TUNNELS_ALL || words.iter().all(|word| told.contains(word)),
        "{clear}: {told}"
    );
    // Of what comes with the refusal of a tunnel, some programs tell the number only, others the word for it only.
    let tunnels = if name == TUNNELS_ALL {
        vec![clear, tls]
    } else {
        vec![tls]
    };
    for url in tunnels {
        let told = line(url)?;
        ensure!(
            ["403", "Forbidden"].iter().any(|word| told.contains(word)),
            "{url}: {told}"
        );
    }
    for url in refused {
        let told = line(url)?;
        ensure!(!told.contains("\"server\""), "{url} is reached: {told}");
    }
    println!("          {name} in {}: {}", pod.name, line(tls)?.trim());
    Ok(())
}

/// How curl is told the way, and what stands for a host.
struct Form {
    name: &'static str,
    way: String,
    scheme: &'static str,
    refusal: &'static [&'static str],
}

/// All forms at one address of the Gateway.
async fn forms(direct: &Pod<'_>, gateway: &str) -> Result<()> {
    let host = in_url(gateway);
    let forms = [
        Form {
            name: "absolute",
            way: format!("--proxy http://{host}:3128"),
            scheme: "http",
            refusal: &["HTTP/1.1 403"],
        },
        Form {
            name: "CONNECT to HTTP",
            way: format!("--proxytunnel --proxy http://{host}:3128"),
            scheme: "http",
            refusal: &["403"],
        },
        Form {
            name: "CONNECT to TLS",
            way: format!("--proxy http://{host}:3128"),
            scheme: "https",
            refusal: &["HTTP/1.1 403"],
        },
        Form {
            name: "Host",
            way: format!("--connect-to ::{host}:80"),
            scheme: "http",
            refusal: &["HTTP/1.1 403"],
        },
        Form {
            name: "SNI",
            way: format!("--connect-to ::{host}:443"),
            scheme: "https",
            refusal: &["SSL routines::tlsv1"],
        },
    ];
    let mut asked = Vec::new();
    for form in &forms {
        for allowed in [world::WEATHER, world::WEATHER_V4, world::WEATHER_V6] {
            asked.push((form, allowed.to_owned(), true));
        }
        for refused in [
            FORBIDDEN,
            "openweathermap.org",
            "api.openweathermap.org.forbidden.example",
            "api.openweathermap.org:8080",
            "192.175.48.10",
            FORBIDDEN_ADDRESSES[0],
            "[2620:4f:8000::10]",
            "169.254.169.254",
            "metadata.openweathermap.org",
            "inside.openweathermap.org",
        ] {
            // The port of a greeting is that of the listener.
            if form.name != "SNI" || !refused.contains(":8080") {
                asked.push((form, refused.to_owned(), false));
            }
        }
    }
    let asked = asked.into_iter().map(|(form, host, allowed)| {
        let arguments = format!("{} '{}://{host}/data'", form.way, form.scheme);
        (direct, arguments, (form, host, allowed))
    });
    ask_all(asked, |asked, (form, host, allowed)| {
        if host == FORBIDDEN {
            let words: Vec<&str> = asked.printed.split_whitespace().collect();
            println!("          {} by {gateway}: {}", form.name, words.join(" "));
        }
        let judged = if allowed {
            reached(asked, &host)
        } else {
            asked.refused(form.refusal)
        };
        judged.with_context(|| form.name)
    })
    .await
}

/// What no program shows, and what no program sends: the words in the refusal of a tunnel, and addresses in odd spellings.
async fn by_hand(direct: &Pod<'_>, gateway: &str) -> Result<()> {
    for (authority, reason) in [
        ("forbidden.example:443", "host_not_listed"),
        ("192.175.48.10:443", "host_not_listed"),
        // The same as one number, in octal, in hex, and wrapped.
        ("3232706570:443", "bad_destination"),
        ("0300.0257.060.012:443", "bad_destination"),
        ("0xc0.0xaf.0x30.0x0a:443", "bad_destination"),
        ("[::ffff:192.175.48.10]:443", "host_not_listed"),
        ("user@api.openweathermap.org:443", "bad_request"),
        ("api.openweathermap.org", "bad_destination"),
    ] {
        let script = format!(
            "exec 3<>/dev/tcp/{gateway}/3128; printf 'CONNECT {authority} HTTP/1.1\\r\\nHost: {authority}\\r\\n\\r\\n' >&3; timeout 10 cat <&3"
        );
        let printed = direct.shell(&script).await?;
        let status = printed.lines().next().unwrap_or_default();
        ensure!(
            status.starts_with("HTTP/1.1 4") && printed.contains(reason),
            "CONNECT {authority}: {printed}"
        );
        let words = printed.lines().last().unwrap_or_default();
        println!("          CONNECT {authority}: {}: {words}", status.trim());
    }
    Ok(())
}

fn reached(asked: &Asked, host: &str) -> Result<()> {
    let echo = asked.reached(host)?;
    let address = echo["address"].as_str().unwrap_or_default();
    let v6 = address.starts_with('[');
    ensure!(
        (host != world::WEATHER_V4 || !v6) && (host != world::WEATHER_V6 || v6),
        "{host} was reached at {address}"
    );
    Ok(())
}
