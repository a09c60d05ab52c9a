//! `portcullis translate`: what manifests become.

use std::{collections::BTreeMap, fmt::Write as _, process::ExitCode};

use anyhow::Context;
use portcullis_controller::{Statuses, status::ConditionSet};
use portcullis_routing::{GatewayKey, RoutingTable};
use serde::Serialize;

use crate::{
    args::TranslateArgs,
    output::{self, Columns, HEAD, show, styled, tell},
    report, serving,
    source::Source,
    words,
};

#[derive(Serialize)]
struct Output {
    tables: BTreeMap<GatewayKey, RoutingTable>,
    statuses: Statuses,
}

/// Prints tables (keys redacted) and statuses, or one table as it is. Findings go to standard error, so that the output
/// stays clean.
pub(crate) fn translate(args: &TranslateArgs) -> anyhow::Result<ExitCode> {
    let configuration = Source::new(&args.paths)?.load()?;
    let translation = configuration.translation;
    if let Some(gateway) = &args.table {
        show(&output::json(one(&translation.tables, gateway)?)?);
    } else {
        let output = Output {
            tables: translation
                .tables
                .iter()
                .map(|(key, table)| (key.clone(), table.redacted()))
                .collect(),
            statuses: translation.statuses,
        };
        output::print(args.output.output, &output, table)?;
    }
    tell(&report::text(&configuration.issues));
    Ok(report::exit_code(&configuration.issues))
}

fn one<'a>(
    tables: &'a BTreeMap<GatewayKey, RoutingTable>,
    gateway: &str,
) -> anyhow::Result<&'a RoutingTable> {
    let known: Vec<_> = tables.keys().map(GatewayKey::as_str).collect();
    tables.get(gateway).with_context(|| match known[..] {
        [] => format!("there is no table of Gateway {gateway}, nor of any other; `portcullis analyze` says why"),
        _ => format!("there is no table of Gateway {gateway}; choose one of {}", known.join(", ")),
    })
}

fn table(output: &Output) -> String {
    let mut text = String::new();
    for (key, table) in &output.tables {
        let listeners = serving::listeners(table, &|listener| {
            format!(
                "{} port {}",
                words::scheme(listener.protocol),
                listener.port
            )
        });
        writeln!(
            text,
            "{} {key}, table version {}\n",
            styled(HEAD, "Gateway"),
            table.version
        )
        .ok();
        writeln!(text, "{listeners}\n{}", serving::routes(table)).ok();
        text += &serving::egress(table);
    }
    text + &conditions(&output.statuses).to_string()
}

fn conditions(statuses: &Statuses) -> Columns {
    let mut columns = Columns::new(["OBJECT", "CONDITION", "STATUS", "REASON"]);
    let mut rows = |object: String, conditions: &ConditionSet| {
        for condition in conditions.iter() {
            columns.row([
                object.clone(),
                condition.kind.to_owned(),
                format!("{:?}", condition.status),
                condition.reason.to_owned(),
            ]);
        }
    };
    for (key, class) in &statuses.gateway_classes {
        rows(format!("GatewayClass {key}"), &class.conditions);
    }
    for (key, gateway) in &statuses.gateways {
        rows(format!("Gateway {key}"), &gateway.conditions);
        for listener in &gateway.listeners {
            rows(
                format!("Gateway {key} listener {}", listener.name),
                &listener.conditions,
            );
        }
    }
    for (kind, key, route) in statuses.routes() {
        for parent in &route.parents {
            rows(
                format!("{kind} {key} at {}", parent.parent_ref.name),
                &parent.conditions,
            );
        }
    }
    for (key, conditions) in &statuses.service_entries {
        rows(format!("ServiceEntry {key}"), conditions);
    }
    for (key, conditions) in &statuses.egress_policies {
        rows(format!("EgressPolicy {key}"), conditions);
    }
    for (key, status) in &statuses.credential_injections {
        for ancestor in &status.ancestors {
            let gateway = &ancestor.ancestor_ref.name;
            let what = format!("CredentialInjection {key} at {gateway}");
            rows(what, &ancestor.conditions);
        }
    }
    columns
}
