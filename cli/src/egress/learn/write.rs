//! What was learned, as YAML with comments.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt::Write as _,
};

use serde_json::{Value, json};

use super::{Lesson, Places, names::Names};
use crate::egress::{
    denied::second,
    logs::Read,
    manifest::{
        MAX_DESTINATIONS, MAX_ENTRY_PORTS, MAX_HOSTS, Spoken, destinations, egress_policy,
        port_name, service_entry, yaml,
    },
    record::place,
    tally::Count,
};

/// Hosts below one name from which on a wildcard may be meant.
const MANY: usize = 5;
/// More lines of one comment are counted.
const SHOWN: usize = 200;

/// Hosts that need a ServiceEntry, by the ports of them that are wanted.
type Wanted<'a> = BTreeMap<BTreeSet<(u16, Spoken)>, BTreeSet<&'a str>>;

/// How often who was seen at a destination.
#[derive(Default)]
struct By<'a> {
    count: u64,
    accounts: BTreeSet<&'a str>,
}

/// Ways of speaking to a destination, most frequent first.
type Ways<'a> = BTreeMap<(&'a str, u16), Vec<Spoken>>;

/// Everything.
pub(super) fn text(lesson: &Lesson, read: &Read) -> anyhow::Result<String> {
    let period = lesson.period();
    let mut text = heading(lesson, period, read);
    text += &not_allowed(lesson);
    let ways = ways(lesson);
    let namespaces: BTreeSet<&str> = lesson.allowed.keys().map(|(it, _)| &**it).collect();
    for namespace in &namespaces {
        text += &entries(lesson, namespace, &ways, &mut Names::of(period))?;
    }
    let mut names: BTreeMap<&str, Names> = BTreeMap::new();
    for ((namespace, account), places) in &lesson.allowed {
        let names = names.entry(namespace).or_insert_with(|| Names::of(period));
        text += &policies((namespace, account), places, names)?;
    }
    for (namespace, mut names) in names {
        text += &closing(namespace, &mut names)?;
    }
    Ok(text)
}

fn heading(lesson: &Lesson, period: Option<Count>, read: &Read) -> String {
    let mut text = match period {
        None => "# No decision was seen that anything could be learned from.\n".to_owned(),
        Some(count) => format!(
            "# Learned from {} decisions, {} to {}. Read it before you apply it.\n",
            read.decisions,
            second(count.first),
            second(count.last)
        ),
    };
    if lesson.forgotten > 0 {
        writeln!(
            text,
            "# {} of them were about destinations too many to remember: look at less with --namespace or --since.",
            lesson.forgotten
        )
        .ok();
    }
    if !lesson.allowed.is_empty() {
        text += "#\n\
                 # A ServiceEntry opens its hosts to its namespace as soon as it is applied, to accounts that were not seen too: a policy at the end,\n\
                 # in comments, is against that. An EgressPolicy of mode Report refuses nothing: `portcullis egress denied` says what it would\n\
                 # refuse. When that is nothing that should pass, remove its mode.\n\
                 # A tunnel that was refused is taken for TLS on port 443 and for HTTP on port 80.\n\
                 #\n\
                 # The names are of these decisions alone, so applying this replaces nothing that was learned from others, nor sets a policy back\n\
                 # to mode Report that has lost its mode since. Applied once more, this output itself would: `kubectl create` leaves what is there.\n";
    }
    text
}

fn not_allowed(lesson: &Lesson) -> String {
    if lesson.refused.is_empty() {
        return String::new();
    }
    let lines = lesson.refused.iter().map(|(one, seen)| {
        let why: Vec<_> = seen.against.iter().map(String::as_str).collect();
        format!(
            "{}, {}, by {}: {}",
            place(&one.host, one.port),
            times(seen.count.times),
            one.caller,
            why.join("; ")
        )
    });
    format!(
        "#\n# Not allowed here:\n{}{}",
        comment(lines),
        strangers(lesson)
    )
}

/// How callers that are not known come to be known.
fn strangers(lesson: &Lesson) -> String {
    let Some(address) = lesson.stranger() else {
        return String::new();
    };
    format!(
        "#\n\
         # Nothing is written for callers that are not known: learn from what they ask once they are. In a cluster they are by the addresses\n\
         # of their pods, by tokens or by certificates. For `portcullis run`, on a laptop say, put a Pod that has the address among its files:\n\
         #   apiVersion: v1\n\
         #   kind: Pod\n\
         #   metadata: {{name: this-machine, namespace: default}}\n\
         #   spec: {{serviceAccountName: default, containers: [{{name: any, image: any}}]}}\n\
         #   status: {{phase: Running, podIP: \"{address}\", podIPs: [{{ip: \"{address}\"}}]}}\n"
    )
}

/// How destinations are spoken to: one way for all callers, since two entries would contradict each other.
fn ways(lesson: &Lesson) -> Ways<'_> {
    let mut counts: BTreeMap<_, BTreeMap<Spoken, u64>> = BTreeMap::new();
    for ((host, port), seen) in lesson.allowed.values().flatten() {
        let counts = counts.entry((&**host, *port)).or_default();
        for (spoken, count) in &seen.spoken {
            *counts.entry(*spoken).or_default() += count;
        }
    }
    let sorted = |counts: BTreeMap<Spoken, u64>| {
        let mut ways: Vec<_> = counts.into_iter().collect();
        ways.sort_by_key(|(_, count)| std::cmp::Reverse(*count));
        ways.into_iter().map(|(spoken, _)| spoken).collect()
    };
    let ways = counts.into_iter();
    ways.map(|(place, counts)| (place, sorted(counts)))
        .collect()
}

/// The ServiceEntries of a namespace.
fn entries(
    lesson: &Lesson,
    namespace: &str,
    ways: &Ways<'_>,
    names: &mut Names,
) -> anyhow::Result<String> {
    let seen = unlisted(lesson, namespace);
    let mut text = String::new();
    for (ports, hosts) in wanted(&seen, ways) {
        let (ports, hosts) = (Vec::from_iter(ports), Vec::from_iter(hosts));
        for ports in ports.chunks(MAX_ENTRY_PORTS) {
            let of_ports: Vec<_> = ports
                .iter()
                .map(|(port, way)| port_name(*port, *way))
                .collect();
            for hosts in hosts.chunks(MAX_HOSTS) {
                let name = names.name(&of_ports.join("-"), &hosts.join(" "));
                let is_own = |(host, port): &(&str, u16)| {
                    hosts.contains(host) && ports.iter().any(|(number, _)| number == port)
                };
                let own = seen.iter().filter(|(place, _)| is_own(place));
                let lines =
                    own.filter_map(|(place, by)| Some(entry_line(*place, by, ways.get(place)?)));
                let entry = service_entry(
                    (namespace, &name),
                    hosts.iter().copied(),
                    ports.iter().copied(),
                    ".",
                );
                text += &document(lines.chain(suffixes(hosts)), &entry)?;
            }
        }
    }
    Ok(text)
}

/// What callers of a namespace wanted that no ServiceEntry opens to them.
fn unlisted<'a>(lesson: &'a Lesson, namespace: &str) -> BTreeMap<(&'a str, u16), By<'a>> {
    let mut seen: BTreeMap<_, By<'_>> = BTreeMap::new();
    let own = lesson.allowed.iter();
    for ((_, account), places) in own.filter(|((it, _), _)| &**it == namespace) {
        for ((host, port), one) in places.iter().filter(|(_, one)| one.is_unlisted()) {
            let by = seen.entry((&**host, *port)).or_default();
            by.count += one.count.times;
            by.accounts.insert(account);
        }
    }
    seen
}

fn wanted<'a>(seen: &BTreeMap<(&'a str, u16), By<'_>>, ways: &Ways<'_>) -> Wanted<'a> {
    let mut by_host: BTreeMap<&str, BTreeSet<(u16, Spoken)>> = BTreeMap::new();
    for (host, port) in seen.keys() {
        let way = ways.get(&(*host, *port)).and_then(|ways| ways.first());
        let ports = by_host.entry(host).or_default();
        ports.extend(way.map(|way| (*port, *way)));
    }
    let mut wanted = Wanted::new();
    for (host, ports) in by_host {
        wanted.entry(ports).or_default().insert(host);
    }
    wanted
}

fn entry_line((host, port): (&str, u16), by: &By<'_>, ways: &[Spoken]) -> String {
    let accounts: Vec<_> = by.accounts.iter().copied().collect();
    let mut line = format!(
        "{host}:{port}, {}, by {}",
        times(by.count),
        accounts.join(", ")
    );
    let (first, others) = (ways.first(), ways.get(1..).unwrap_or_default());
    if !others.is_empty() {
        let others: Vec<_> = others.iter().map(ToString::to_string).collect();
        write!(line, "; also seen as {}", others.join(", ")).ok();
    }
    if first == Some(&Spoken::Tcp) {
        line += "; with TCP nothing in it is looked at: if it is TLS or HTTP, say so";
    }
    line
}

/// Where a wildcard may be meant. It would open more than was seen, so it is only said.
fn suffixes(hosts: &[&str]) -> Vec<String> {
    let mut below: BTreeMap<&str, usize> = BTreeMap::new();
    for host in hosts {
        let suffix = host.split_once('.').map(|(_, suffix)| suffix);
        if let Some(suffix) = suffix.filter(|suffix| suffix.contains('.')) {
            *below.entry(suffix).or_default() += 1;
        }
    }
    let many = below.into_iter().filter(|(_, hosts)| *hosts >= MANY);
    many.map(|(suffix, hosts)| {
        format!("{hosts} of these end in .{suffix}: if all names there are in good hands, \"*.{suffix}\" with resolution NONE says it shorter")
    })
    .collect()
}

/// The EgressPolicies of a service account.
fn policies(
    (namespace, account): (&str, &str),
    places: &Places,
    names: &mut Names,
) -> anyhow::Result<String> {
    let to = destinations(places.keys().map(|(host, port)| (&**host, *port)));
    let mut text = String::new();
    for (index, to) in to.chunks(MAX_DESTINATIONS).enumerate() {
        let name = names.name(account, &Value::from(to).to_string());
        let lines: Vec<_> = match index {
            0 => places
                .iter()
                .map(|((host, port), seen)| format!("{host}:{port}, {}", times(seen.count.times)))
                .collect(),
            _ => vec![format!("more of what {account} was seen at")],
        };
        let callers = json!({ "serviceAccounts": [account] });
        let policy = egress_policy((namespace, &name), &callers, "Report", to);
        text += &document(lines.into_iter(), &policy)?;
    }
    Ok(text)
}

/// An EgressPolicy that shuts in whoever of a namespace was not seen, as a comment: nobody knows whether all were.
fn closing(namespace: &str, names: &mut Names) -> anyhow::Result<String> {
    let name = names.name("no-others", namespace);
    let callers = json!({ "namespaces": [namespace] });
    let policy = egress_policy((namespace, &name), &callers, "Report", &[]);
    let mut text = format!(
        "#\n\
         # Accounts of namespace {namespace} that were not seen may use the hosts of its ServiceEntries too: no policy above is for them. This one\n\
         # is for all accounts, and allows nothing, so that beside those above it shuts in the others. To apply it take one # off\n\
         # each line from here; remove its mode when theirs is removed, and not before, as it would refuse what they name.\n\
         #---\n"
    );
    for line in yaml(&policy)?.lines() {
        writeln!(text, "#{line}").ok();
    }
    Ok(text)
}

/// A manifest below its comment.
fn document(lines: impl Iterator<Item = String>, manifest: &Value) -> anyhow::Result<String> {
    Ok(format!("---\n{}{}", comment(lines), yaml(manifest)?))
}

/// Lines of a comment. None of them has a line break: all that was read is printable ASCII.
fn comment(mut lines: impl Iterator<Item = String>) -> String {
    let mut text = String::new();
    for line in lines.by_ref().take(SHOWN) {
        writeln!(text, "#   {line}").ok();
    }
    let more = lines.count();
    if more > 0 {
        writeln!(text, "#   ... and {more} more").ok();
    }
    text
}

fn times(count: u64) -> String {
    match count {
        1 => "once".to_owned(),
        count => format!("{count} times"),
    }
}
