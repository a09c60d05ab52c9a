//! Load from wrk (HTTP/1.1) and h2load (HTTP/2), and what they say about the answers.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use tokio::process::Command;

use super::contender::{Protocol, Running};
use crate::support::{
    backend::ANSWER_LENGTH,
    binaries::installed,
    process::{output_of, to_f64},
};

const HTTP1_CONNECTIONS: u64 = 32;
const HTTP2_CONNECTIONS: u64 = 8;
const HTTP2_STREAMS: u64 = 16;
/// More than any contender's head may add to a body, in bytes.
const LARGEST_HEAD: f64 = 1024.0;

/// What a load did.
#[derive(Debug, PartialEq)]
pub(crate) struct Load {
    pub(crate) requests: u64,
    pub(crate) per_second: f64,
}

/// Loads `running` for `duration`. An answer that is not 200, or has another length, is an error.
pub(crate) async fn load(
    running: &Running,
    protocol: Protocol,
    duration: Duration,
) -> Result<Load> {
    let address = running.address(protocol);
    let seconds = duration.as_secs().to_string();
    if protocol == Protocol::TlsHttp2 {
        let mut command = Command::new(installed("h2load")?);
        command
            .args([
                "-t",
                "1",
                "-c",
                &HTTP2_CONNECTIONS.to_string(),
                "-m",
                &HTTP2_STREAMS.to_string(),
            ])
            .args(["-D", &seconds, &format!("https://{address}/")]);
        return parse_h2load(&output_of(command).await?);
    }
    let scheme = if protocol == Protocol::Http1 {
        "http"
    } else {
        "https"
    };
    let mut command = Command::new(installed("wrk")?);
    command
        .args([
            "-t",
            "1",
            "-c",
            &HTTP1_CONNECTIONS.to_string(),
            "-d",
            &seconds,
            "--timeout",
            "5",
        ])
        .arg(format!("{scheme}://{address}/"));
    parse_wrk(&output_of(command).await?)
}

fn parse_wrk(output: &str) -> Result<Load> {
    let wrong = output
        .lines()
        .find(|line| line.contains("Non-2xx") || line.contains("Socket errors"));
    ensure!(wrong.is_none(), "wrk counted failures:\n{output}");
    let total = output
        .lines()
        .find(|line| line.contains(" requests in "))
        .context("wrk printed no total")?;
    let words: Vec<&str> = total.split_whitespace().collect();
    let [requests, "requests", "in", _, bytes, "read"] = words.as_slice() else {
        anyhow::bail!("wrk printed an unknown total: {total}");
    };
    let requests: u64 = requests.parse()?;
    let per_second = number_behind(output, "Requests/sec:")?;
    let length = parse_size(bytes)? / to_f64(requests);
    let body = to_f64(ANSWER_LENGTH as u64);
    ensure!(
        length > body && length < body + LARGEST_HEAD,
        "{length:.0} bytes per answer:\n{output}"
    );
    Ok(Load {
        requests,
        per_second,
    })
}

fn parse_h2load(output: &str) -> Result<Load> {
    let line = |name: &str| {
        output
            .lines()
            .find(|line| line.starts_with(name))
            .with_context(|| format!("h2load printed no '{name}'"))
    };
    let requests = count_before(line("requests:")?, "succeeded")?;
    for (name, word) in [
        ("requests:", "failed"),
        ("requests:", "errored"),
        ("requests:", "timeout"),
    ] {
        ensure!(
            count_before(line(name)?, word)? == 0,
            "h2load counted failures:\n{output}"
        );
    }
    let good = count_before(line("status codes:")?, "2xx")?;
    let data = count_before(line("traffic:")?, "data")?;
    let in_flight = HTTP2_CONNECTIONS * HTTP2_STREAMS;
    ensure!(
        good.abs_diff(requests) <= in_flight,
        "{good} of {requests} answers are good:\n{output}"
    );
    let length = ANSWER_LENGTH as u64;
    ensure!(
        data.abs_diff(requests * length) <= in_flight * length,
        "{data} bytes in {requests} answers:\n{output}"
    );
    let finished = output
        .lines()
        .find(|line| line.starts_with("finished in"))
        .context("h2load did not finish")?;
    let rate = finished
        .split(", ")
        .find_map(|part| part.strip_suffix(" req/s"))
        .context("h2load printed no rate")?;
    Ok(Load {
        requests,
        per_second: rate.parse()?,
    })
}

/// The number before `word` in a line such as `a: 1 x, 2.5KB (2560) y`; brackets hold the exact one.
fn count_before(line: &str, word: &str) -> Result<u64> {
    let words: Vec<&str> = line
        .split([' ', ','])
        .filter(|part| !part.is_empty())
        .collect();
    let at = words
        .iter()
        .position(|part| *part == word)
        .with_context(|| format!("no '{word}' in '{line}'"))?;
    let number = at
        .checked_sub(1)
        .and_then(|before| words.get(before))
        .context("a count stands before its name")?;
    Ok(number.trim_matches(['(', ')']).parse()?)
}

fn number_behind(output: &str, name: &str) -> Result<f64> {
    let text = output
        .lines()
        .find_map(|line| line.trim().strip_prefix(name));
    Ok(text
        .with_context(|| format!("no '{name}'"))?
        .trim()
        .parse()?)
}

/// wrk's sizes: `1.50GB`, in powers of 1024.
fn parse_size(text: &str) -> Result<f64> {
    let units = [("GB", 30), ("MB", 20), ("KB", 10), ("B", 0)];
    let (number, power) = units
        .iter()
        .find_map(|(unit, power)| Some((text.strip_suffix(unit)?, *power)))
        .with_context(|| format!("'{text}' is no size"))?;
    Ok(number.parse::<f64>()? * to_f64(1 << power))
}

#[cfg(test)]
mod tests {
    use super::{Load, parse_h2load, parse_wrk};

    const WRK: &str = "Running 1s test @ http://127.0.0.1:1/\n  1 threads and 32 connections\n  \
        1000 requests in 1.00s, 1.15MB read\nRequests/sec:  999.50\nTransfer/sec:  1.15MB\n";

    const H2LOAD: &str = "finished in 1.00s, 990.10 req/s, 1.09MB/s\n\
        requests: 990 total, 990 started, 1000 done, 1000 succeeded, 0 failed, 0 errored, 0 timeout\n\
        status codes: 1000 2xx, 0 3xx, 0 4xx, 0 5xx\n\
        traffic: 1.09MB (1140000) total, 23.0KB (23000) headers (space savings 90.00%), 1000.00KB (1024000) data\n";

    #[test]
    fn wrk_is_read() {
        assert_eq!(
            parse_wrk(WRK).unwrap(),
            Load {
                requests: 1000,
                per_second: 999.5
            }
        );
    }

    #[test]
    fn wrk_with_failures_is_refused() {
        assert!(parse_wrk(&format!("{WRK}  Non-2xx or 3xx responses: 1\n")).is_err());
        assert!(parse_wrk(&WRK.replace("1.15MB", "115.00KB")).is_err());
    }

    #[test]
    fn h2load_is_read() {
        assert_eq!(
            parse_h2load(H2LOAD).unwrap(),
            Load {
                requests: 1000,
                per_second: 990.1
            }
        );
    }

    #[test]
    fn h2load_with_failures_is_refused() {
        assert!(parse_h2load(&H2LOAD.replace("0 failed", "1 failed")).is_err());
        assert!(parse_h2load(&H2LOAD.replace("(1024000) data", "(0) data")).is_err());
        assert!(parse_h2load(&H2LOAD.replace("1000 2xx", "0 2xx")).is_err());
    }
}
