//! `portcullis`: runs the edge proxy from files, and explains what it does.

mod analyze;
mod args;
mod binding;
mod check;
mod cluster;
mod demo;
mod egress;
mod explain;
mod grant;
mod install;
mod merge;
mod names;
mod output;
mod report;
mod request;
mod run;
mod serving;
mod signals;
mod source;
mod status;
mod translate;
mod watch;
mod words;

use std::process::ExitCode;

use clap::{CommandFactory, Parser};

use crate::{
    args::{Cli, Command},
    output::{BAD, styled, tell},
};

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// There are findings.
pub(crate) const FINDINGS: u8 = 1;
/// The command could not be carried out.
const REFUSED: u8 = 2;

fn main() -> ExitCode {
    let cli = Cli::parse();
    // Fails only if a provider is installed already, and then it is this one.
    rustls::crypto::aws_lc_rs::default_provider()
        .install_default()
        .ok();
    let done = match &cli.command {
        Command::Demo(args) => demo::demo(args),
        Command::Run(args) => run::run(args),
        Command::Analyze(args) => analyze::analyze(args),
        Command::Explain(args) => explain::explain(args),
        Command::Translate(args) => translate::translate(args),
        Command::Install(args) => install::install(args),
        Command::Check(args) => check::check(args),
        Command::Status(args) => status::status(args),
        Command::Egress(args) => egress::egress(args),
        Command::Completion { shell } => {
            clap_complete::generate(
                *shell,
                &mut Cli::command(),
                "portcullis",
                &mut std::io::stdout(),
            );
            Ok(ExitCode::SUCCESS)
        }
    };
    done.unwrap_or_else(|error| {
        tell(&format!("{} {error:#}\n", styled(BAD, "error:")));
        ExitCode::from(REFUSED)
    })
}
