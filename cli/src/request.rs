//! The request that `explain` is asked about, as the command line has it.

use std::{net::IpAddr, path::PathBuf};

use anyhow::{Context, bail};
use http::{Method, Uri, header, uri::Authority};

use crate::args::ExplainArgs;

const WANTED: &str = "name a method, in capitals, and a URL, such as GET http://shop.example/cart";

/// A request, and the connection that it is made on.
#[derive(Debug)]
pub(crate) struct Request {
    pub(crate) method: Method,
    /// In full: with scheme and host.
    pub(crate) url: Uri,
    /// The port of the Gateway's spec.
    pub(crate) port: u16,
    /// The host that the proxy is asked for: of the `Host` header, as with curl, or of the URL. Lower case.
    pub(crate) host: String,
    /// The name in the TLS handshake, lower case. Clients send none for an IP address.
    pub(crate) sni: Option<String>,
}

impl Request {
    /// Reads the command line. Also, the paths of the manifests: `--config` takes as many words as it can get, and so may
    /// have got method and URL, too.
    pub(crate) fn of(args: &ExplainArgs) -> anyhow::Result<(Self, Vec<PathBuf>)> {
        let words: Vec<String> = args.method.iter().chain(&args.url).cloned().collect();
        let (paths, words) = match &args.gateway {
            None => split(&args.config, words)?,
            Some(_) => match <[String; 2]>::try_from(words) {
                Ok(words) => (Vec::new(), words),
                Err(_) => bail!(WANTED),
            },
        };
        let [method, url] = &words;
        let method = method
            .parse()
            .with_context(|| format!("'{method}' is no method; {WANTED}"))?;
        let url = url_of(url)?;
        let tls = url.scheme_str() == Some("https");
        if args.sni.is_some() && !tls {
            bail!("--sni is for the TLS handshake: start the URL with https://");
        }
        check_port(&url)?;
        let own = url.host().map(name).unwrap_or_default();
        let named = args.sni.as_deref().map_or_else(|| own.clone(), name);
        let request = Self {
            port: args
                .map_port
                .spec(url.port_u16().unwrap_or(if tls { 443 } else { 80 })),
            host: asked_host(args)?.unwrap_or(own),
            sni: (tls && !is_address(&named)).then_some(named),
            method,
            url,
        };
        Ok((request, paths))
    }
}

/// A port that is none would be taken for the scheme's own.
fn check_port(url: &Uri) -> anyhow::Result<()> {
    let Some(authority) = url.authority() else {
        return Ok(());
    };
    let behind = authority.as_str().rsplit('@').next().unwrap_or_default();
    let port = behind.strip_prefix(authority.host()).unwrap_or_default();
    let is_port = port.is_empty() || authority.port_u16().is_some_and(|port| port > 0);
    anyhow::ensure!(
        is_port,
        "'{}' is no port, in the URL {url}: write a number from 1 to 65535",
        port.trim_start_matches(':')
    );
    Ok(())
}

/// Paths, then method and URL.
fn split(config: &[PathBuf], words: Vec<String>) -> anyhow::Result<(Vec<PathBuf>, [String; 2])> {
    let missing = 2_usize.saturating_sub(words.len());
    let paths = config.len().checked_sub(missing).filter(|paths| *paths > 0);
    let (paths, taken) = config.split_at(paths.context(WANTED)?);
    let taken = taken.iter().map(|path| path.display().to_string());
    let mut words: Vec<String> = taken.chain(words).collect();
    // `GET --config a.yaml http://shop.example/`
    words.sort_by_key(|word| !is_method(word));
    match <[String; 2]>::try_from(words) {
        Ok(words) if missing == 0 || is_method(&words[0]) => Ok((paths.to_vec(), words)),
        _ => bail!(WANTED),
    }
}

/// As methods are written. A word of any other form behind `--config` is a path.
fn is_method(word: &str) -> bool {
    word.chars()
        .all(|letter| letter.is_ascii_uppercase() || letter == '-')
}

/// A URL as curl takes it: without a scheme it is http.
fn url_of(text: &str) -> anyhow::Result<Uri> {
    let full = if text.contains("://") {
        text.to_owned()
    } else {
        format!("http://{text}")
    };
    let url: Uri = full
        .parse()
        .ok()
        .filter(|url: &Uri| url.host().is_some_and(|host| !host.is_empty()))
        .with_context(|| {
            format!(
                "'{text}' is no URL with a host; write it in full, such as http://shop.example/cart"
            )
        })?;
    match url.scheme_str() {
        Some("http" | "https") => Ok(url),
        _ => bail!("'{text}' is none of http:// and https://"),
    }
}

fn asked_host(args: &ExplainArgs) -> anyhow::Result<Option<String>> {
    let header = args.headers.iter().find(|(name, _)| name == header::HOST);
    header
        .map(|(_, value)| {
            let authority =
                Authority::try_from(value.as_bytes()).context("the Host header holds no host")?;
            Ok(name(authority.host()))
        })
        .transpose()
}

/// A host as the proxy compares it: lower case, without the final dot of a fully qualified name.
fn name(host: &str) -> String {
    host.strip_suffix('.').unwrap_or(host).to_ascii_lowercase()
}

fn is_address(host: &str) -> bool {
    host.trim_matches(['[', ']']).parse::<IpAddr>().is_ok()
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;
    use crate::args::{Cli, Command};

    fn read(line: &str) -> anyhow::Result<(Request, Vec<PathBuf>)> {
        let words = ["portcullis", "explain"].into_iter().chain(line.split(' '));
        match Cli::try_parse_from(words)?.command {
            Command::Explain(args) => Request::of(&args),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn paths_may_stand_anywhere() {
        for line in [
            "--config a b GET http://shop.example/",
            "-c a -c b GET http://shop.example/",
            "-c a -c b -H user:test GET http://shop.example/",
            "GET http://shop.example/ --config a b",
            "--config a b -H user:test GET http://shop.example/",
            "--config a b GET -H user:test http://shop.example/",
            "GET --config a b http://shop.example/",
        ] {
            let (request, paths) = read(line).unwrap();
            assert_eq!(paths, [PathBuf::from("a"), PathBuf::from("b")], "{line}");
            assert_eq!(request.method, Method::GET, "{line}");
            assert_eq!(request.url, "http://shop.example/", "{line}");
        }
        for line in [
            "--config a",
            "--config a b",
            "--config a b c",
            "--config a GET",
            "--config a get http://shop.example/",
        ] {
            let error = read(line).unwrap_err().to_string();
            assert_eq!(error, WANTED, "{line}");
        }
    }

    #[test]
    fn a_url_is_read_as_curl_does() {
        for (text, expected, port) in [
            ("shop.example", "http://shop.example/", 80),
            ("shop.example/cart?a=1", "http://shop.example/cart?a=1", 80),
            ("localhost:8080/", "http://localhost:8080/", 8080),
            ("https://shop.example/", "https://shop.example/", 443),
            ("https://[::1]:8443/", "https://[::1]:8443/", 8443),
        ] {
            let (request, _) = read(&format!("GET {text} -c a")).unwrap();
            assert_eq!(request.url, expected, "{text}");
            assert_eq!(request.port, port, "{text}");
        }
        for text in ["/cart", "ftp://shop.example/", "http://", "http:///cart"] {
            assert!(read(&format!("GET {text} -c a")).is_err(), "{text}");
        }
    }

    #[test]
    fn the_handshake_names_the_host_of_the_url_unless_told_another() {
        let sni = |line: &str| read(line).unwrap().0.sni;
        let shop = Some("shop.example".to_owned());
        assert_eq!(sni("-c a GET https://Shop.example./"), shop);
        assert_eq!(
            sni("-c a -H Host:other.example GET https://shop.example/"),
            shop
        );
        assert_eq!(
            sni("-c a --sni Shop.example GET https://other.example/"),
            shop
        );
        assert_eq!(sni("-c a --sni shop.example GET https://127.0.0.1/"), shop);
        assert_eq!(sni("-c a GET https://127.0.0.1/"), None);
        assert_eq!(sni("-c a GET https://[::1]/"), None);
        assert_eq!(sni("-c a GET http://shop.example/"), None);
        let error = read("-c a --sni b GET http://shop.example/").unwrap_err();
        assert!(error.to_string().contains("https://"), "{error}");
    }
}
