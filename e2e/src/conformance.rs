//! `cargo e2e conformance`: the official conformance suite of Gateway API against the cluster.

use std::{
    fmt,
    fs::{self, File},
    io::{self, BufRead as _, BufReader, Write as _},
    path::{Path, PathBuf},
    process::ExitStatus,
};

use anyhow::{Context, Result, ensure};
use clap::Args;
use tokio::{process::Command, task::spawn_blocking};

use crate::cluster::{
    Cluster,
    artifacts::CONFORMANCE,
    doctor,
    layout::{UNUSABLE_ADDRESS, USABLE_ADDRESS},
};

/// Where the project's reports are, one folder for each minor release of Gateway API.
const REPORTS: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/conformance/reports/v1.7");
/// Longest run of the suite: every test of every profile, each with its worst case.
const TIME_LIMIT: &str = "6h";
/// The GatewayClass that Portcullis serves.
const GATEWAY_CLASS: &str = "portcullis";

/// Fewest tests that a profile adds to a whole run. Of GATEWAY-HTTP 40 core and 64 extended ones, as in the report of v1.7.0; of
/// GATEWAY-TLS those of TLSRoute. The suite leaves out what the GatewayClass does not claim to support, so that a claim that got
/// lost would pass in silence. Raise them with every new claim.
const FEWEST_TESTS: [(&str, u32); 2] = [("GATEWAY-HTTP", 104), ("GATEWAY-TLS", 12)];

/// The official conformance suite of Gateway API. Fails if the suite does.
#[derive(Args)]
pub(crate) struct Conformance {
    /// Profile to run: GATEWAY-HTTP, GATEWAY-GRPC, GATEWAY-TLS, GATEWAY-TCP or GATEWAY-UDP. May be given several times.
    #[arg(long, required = true)]
    profile: Vec<String>,
    /// Run this test only, by its short name (`HTTPRouteMatching`).
    #[arg(long)]
    run_test: Option<String>,
    /// Test every feature, not only those that the GatewayClass says it supports.
    #[arg(long)]
    all_features: bool,
    /// Write the report into e2e/conformance/reports/, as it is handed in upstream.
    #[arg(long, requires_all = ["organization", "url", "contact"], conflicts_with = "run_test")]
    report: bool,
    /// For the report: who makes Portcullis.
    #[arg(long)]
    organization: Option<String>,
    /// For the report: where the project is.
    #[arg(long)]
    url: Option<String>,
    /// For the report: who is to be asked about it.
    #[arg(long)]
    contact: Option<String>,
    /// More flags for the suite, behind `--`.
    #[arg(last = true)]
    suite: Vec<String>,
}

impl Conformance {
    pub(crate) async fn run(self) -> Result<()> {
        let cluster = Cluster::chosen();
        let kubectl = cluster.kubectl().await?;
        doctor::check_suite().await?;
        let suite = CONFORMANCE.get().await?;
        let mut command = Command::new(&suite);
        command
            .args(["-test.v", "-test.run=^TestConformance$"])
            .arg(format!("-test.timeout={TIME_LIMIT}"))
            .arg(format!("--gateway-class={GATEWAY_CLASS}"))
            .arg(format!("--conformance-profiles={}", self.profile.join(",")))
            .env("KUBECONFIG", &kubectl.kubeconfig)
            .kill_on_drop(true);
        if cluster == Cluster::Own {
            command
                .arg(format!("--usable-address={USABLE_ADDRESS}"))
                .arg(format!("--unusable-address={UNUSABLE_ADDRESS}"));
        } else {
            println!(
                "SKIPPED: addresses for GatewayStaticAddresses, because the cluster is not ours; give --usable-address and --unusable-address behind `--`"
            );
        }
        if let Some(test) = &self.run_test {
            command.arg(format!("--run-test={test}"));
        }
        if self.all_features {
            command.arg("--all-features");
        }
        let report = self.add_report(&mut command)?;
        command.args(&self.suite);
        println!("{:?}", command.as_std());
        let log = Path::new(&suite).with_file_name("conformance.log");
        println!("everything that it says: {}", log.display());
        let (status, outcomes) = follow(command, &log).await?;
        println!("{outcomes}");
        if let Some(report) = report.filter(|report| report.exists()) {
            println!("report: {}", report.display());
        }
        ensure!(status.success(), "the suite ended with {status}");
        outcomes.expect_at_least(self.fewest())
    }

    /// How many tests have to be run.
    fn fewest(&self) -> u32 {
        if self.run_test.is_some() {
            return 1;
        }
        let known = FEWEST_TESTS.iter();
        let asked = known.filter(|(known, _)| self.profile.iter().any(|profile| profile == known));
        asked.map(|(_, fewest)| fewest).sum::<u32>().max(1)
    }

    /// Adds what a report needs, and returns where it will be.
    fn add_report(&self, command: &mut Command) -> Result<Option<PathBuf>> {
        if !self.report {
            return Ok(None);
        }
        let version = concat!("v", env!("CARGO_PKG_VERSION"));
        let path = Path::new(REPORTS).join(format!("experimental-{version}-default-report.yaml"));
        fs::create_dir_all(REPORTS)?;
        // What is there afterwards is of this run.
        if path.exists() {
            fs::remove_file(&path)?;
        }
        for (name, value) in [
            ("organization", self.organization.as_deref()),
            ("project", Some("portcullis")),
            ("url", self.url.as_deref()),
            ("version", Some(version)),
            ("contact", self.contact.as_deref()),
        ] {
            let value = value.with_context(|| format!("--report needs --{name}"))?;
            command.arg(format!("--{name}={value}"));
        }
        command.arg("--report-output").arg(&path);
        Ok(Some(path))
    }
}

/// How many tests ended how.
#[derive(Default)]
struct Outcomes {
    passed: u32,
    failed: u32,
    skipped: u32,
}

impl Outcomes {
    /// Takes a line of the suite's log; returns whether it is worth printing: whole tests, and parts that fail.
    fn take(&mut self, line: &str) -> bool {
        let Some((outcome, test)) = line
            .trim_start()
            .strip_prefix("--- ")
            .and_then(|line| line.split_once(": TestConformance/"))
        else {
            return false;
        };
        let is_whole = !test.contains('/');
        match outcome {
            "PASS" if is_whole => self.passed += 1,
            "FAIL" if is_whole => self.failed += 1,
            // What a GatewayClass does not claim to support is not tested; there are many of those.
            "SKIP" if is_whole => {
                self.skipped += 1;
                return false;
            }
            "FAIL" => {}
            _ => return false,
        }
        true
    }

    fn expect_at_least(&self, fewest: u32) -> Result<()> {
        ensure!(
            self.passed >= fewest,
            "{} tests passed, and there are {fewest} at least: does the GatewayClass still name all supported features in its status?",
            self.passed
        );
        Ok(())
    }
}

impl fmt::Display for Outcomes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            passed,
            failed,
            skipped,
        } = self;
        write!(
            f,
            "{passed} tests passed, {failed} failed; {skipped} are for features or profiles that were not asked for"
        )
    }
}

/// Runs the suite, writes what it says into `log`, and prints what counts.
async fn follow(mut command: Command, log: &Path) -> Result<(ExitStatus, Outcomes)> {
    let mut file = File::create(log).with_context(|| log.display().to_string())?;
    let (reader, writer) = io::pipe()?;
    command.stdout(writer.try_clone()?).stderr(writer);
    let mut child = command.spawn().context("cannot start the suite")?;
    // It holds the other ends of the pipe, which must end with the suite.
    drop(command);
    let reading = spawn_blocking(move || -> io::Result<Outcomes> {
        let mut outcomes = Outcomes::default();
        for line in BufReader::new(reader).split(b'\n') {
            let line = line?;
            file.write_all(&line)?;
            file.write_all(b"\n")?;
            let line = String::from_utf8_lossy(&line);
            if outcomes.take(&line) {
                println!("{line}");
            }
        }
        Ok(outcomes)
    });
    let status = child.wait().await?;
    Ok((status, reading.await??))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whole_tests_are_counted_and_failures_are_shown_in_full() {
        let mut outcomes = Outcomes::default();
        let shown = [
            "--- FAIL: TestConformance (300.00s)",
            "    --- PASS: TestConformance/HTTPRouteMatching (0.23s)",
            "        --- PASS: TestConformance/HTTPRouteMatching/part (0.00s)",
            "    --- FAIL: TestConformance/HTTPRouteCORS (0.21s)",
            "        --- FAIL: TestConformance/HTTPRouteCORS/part (30.00s)",
            "    --- SKIP: TestConformance/UDPRoute (0.00s)",
            "    http.go:322: --- what a test says",
        ]
        .map(|line| outcomes.take(line));
        assert_eq!(shown, [false, true, false, true, true, false, false]);
        let Outcomes {
            passed,
            failed,
            skipped,
        } = outcomes;
        assert_eq!((passed, failed, skipped), (1, 1, 1));
    }

    #[test]
    fn a_whole_run_with_a_test_less_fails() {
        let whole = parse(&["--profile", "GATEWAY-GRPC", "--profile", "GATEWAY-HTTP"]);
        let run = |passed| Outcomes {
            passed,
            ..Outcomes::default()
        };
        assert!(run(104).expect_at_least(whole.fewest()).is_ok());
        let error = run(103).expect_at_least(whole.fewest()).unwrap_err();
        assert!(error.to_string().contains("103 tests passed"), "{error}");

        let single = parse(&["--profile", "GATEWAY-HTTP", "--run-test", "HTTPRouteCORS"]);
        assert!(run(1).expect_at_least(single.fewest()).is_ok());
        assert!(run(0).expect_at_least(single.fewest()).is_err());
    }

    fn parse(arguments: &[&str]) -> Conformance {
        #[derive(clap::Parser)]
        struct Whole {
            #[command(flatten)]
            conformance: Conformance,
        }
        let arguments = ["conformance"].iter().chain(arguments);
        <Whole as clap::Parser>::parse_from(arguments).conformance
    }
}
