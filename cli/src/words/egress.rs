//! Entries and policies of egress in words.

use portcullis_routing::{
    EndpointHost, PathMatch,
    egress::{
        CallerMatch, DestinationMatch, Entry, ExportedTo, LabelRequirement, Policy, PolicyAction,
        PolicyMode, PolicyScope, Resolution,
    },
};

/// `api.example, *.example.org, 192.0.2.0/24`.
pub(crate) fn hosts(entry: &Entry) -> String {
    let addresses = entry.addresses.iter().map(ToString::to_string);
    joined(entry.hosts.iter().cloned().chain(addresses))
}

/// `443 HTTPS, 80 HTTP (to 8080, TLS)`. A port that is listed and not served is shut.
pub(crate) fn ports(entry: &Entry) -> String {
    joined(entry.ports.iter().map(|port| {
        let target = port.target_port.map(|target| format!("to {target}"));
        let tls = port.tls.map(|_| "TLS".to_owned());
        let shut = port.shut.then(|| "shut".to_owned());
        let more: Vec<_> = target.into_iter().chain(tls).chain(shut).collect();
        let protocol = format!("{:?}", port.protocol).to_ascii_uppercase();
        if more.is_empty() {
            format!("{} {protocol}", port.number)
        } else {
            format!("{} {protocol} ({})", port.number, more.join(", "))
        }
    }))
}

/// Where its connections go.
pub(crate) fn leads_to(entry: &Entry) -> String {
    if entry.endpoints.is_empty() {
        return match entry.resolution {
            Resolution::None => "what is asked for".to_owned(),
            Resolution::Static | Resolution::Dns => "the host".to_owned(),
            Resolution::DnsRoundRobin => "the host, its first address".to_owned(),
        };
    }
    joined(entry.endpoints.iter().map(|endpoint| match &endpoint.host {
        EndpointHost::Ip(address) => address.to_string(),
        EndpointHost::Name(name) => name.clone(),
    }))
}

/// `everybody`, `nobody` or `shop, apps`.
pub(crate) fn exported_to(entry: &Entry) -> String {
    match &entry.exported_to {
        ExportedTo::All => "everybody".to_owned(),
        ExportedTo::Namespaces(names) if names.is_empty() => "nobody".to_owned(),
        ExportedTo::Namespaces(names) => names.join(", "),
    }
}

/// `allow`, or `deny (report only)`.
pub(crate) fn says(policy: &Policy) -> String {
    let action = match policy.action {
        PolicyAction::Allow => "allow",
        PolicyAction::Deny => "deny",
    };
    match policy.mode {
        PolicyMode::Enforce => action.to_owned(),
        PolicyMode::Report => format!("{action} (report only)"),
    }
}

/// Whom a policy speaks of.
pub(crate) fn callers(policy: &Policy) -> String {
    let scope = match &policy.scope {
        PolicyScope::Gateway => "everybody".to_owned(),
        PolicyScope::Namespace(namespace) => format!("namespace {namespace}"),
    };
    match &policy.from {
        None => scope,
        Some(from) if from.is_empty() => "nobody".to_owned(),
        Some(from) => {
            let from: Vec<_> = from.iter().map(caller).collect();
            match policy.scope {
                PolicyScope::Gateway => from.join("; or "),
                PolicyScope::Namespace(_) => format!("{scope}: {}", from.join("; or ")),
            }
        }
    }
}

fn caller(from: &CallerMatch) -> String {
    if from.unclear {
        return "somebody who is not named in a way that is known, so it holds against everybody"
            .to_owned();
    }
    let namespaces = from.namespaces.as_ref();
    let namespaces = namespaces.map(|names| match names.as_slice() {
        [] => "no namespace".to_owned(),
        names => format!("namespace {}", names.join(" or ")),
    });
    let accounts = from.service_accounts.as_ref().map(|accounts| {
        let accounts = accounts
            .iter()
            .map(|(namespace, name)| format!("{namespace}/{name}"));
        format!(
            "service account {}",
            accounts.collect::<Vec<_>>().join(" or ")
        )
    });
    let labels = from.labels.as_ref();
    let labels = labels.map(|labels| format!("pods with {}", joined(labels.0.iter().map(label))));
    let parts: Vec<_> = [namespaces, accounts, labels]
        .into_iter()
        .flatten()
        .collect();
    if parts.is_empty() {
        "everybody".to_owned()
    } else {
        parts.join(", ")
    }
}

fn label(requirement: &LabelRequirement) -> String {
    match requirement {
        LabelRequirement::In(key, values) => format!("{key}={}", values.join("|")),
        LabelRequirement::NotIn(key, values) => format!("{key}!={}", values.join("|")),
        LabelRequirement::Exists(key) => key.clone(),
        LabelRequirement::DoesNotExist(key) => format!("!{key}"),
    }
}

/// What a policy speaks of.
pub(crate) fn destinations(policy: &Policy) -> String {
    match &policy.to {
        None => "everything".to_owned(),
        Some(to) if to.is_empty() => "nothing".to_owned(),
        Some(to) => to.iter().map(destination).collect::<Vec<_>>().join("; or "),
    }
}

fn destination(to: &DestinationMatch) -> String {
    let numbers: Vec<_> = to.ports.iter().map(ToString::to_string).collect();
    let paths: Vec<_> = to.paths.iter().map(path).collect();
    let parts = [
        ("", to.hosts.join(" or ")),
        ("port ", numbers.join(" or ")),
        ("", to.methods.join(" or ")),
        ("path ", paths.join(" or ")),
    ];
    let parts = parts.iter().filter(|(_, values)| !values.is_empty());
    let parts: Vec<_> = parts
        .map(|(what, values)| format!("{what}{values}"))
        .collect();
    if parts.is_empty() {
        "everything".to_owned()
    } else {
        parts.join(", ")
    }
}

fn path(path: &PathMatch) -> String {
    match path {
        PathMatch::Exact(path) | PathMatch::Regex(path) => path.clone(),
        PathMatch::Prefix(path) => format!("{path} and below"),
    }
}

fn joined(parts: impl Iterator<Item = String>) -> String {
    parts.collect::<Vec<_>>().join(", ")
}

#[cfg(test)]
mod tests {
    use portcullis_routing::{
        RouteOrder,
        egress::{EntryPort, EntryProtocol, EntryTls, LabelSelector},
    };

    use super::*;

    #[test]
    fn an_entry_in_words() {
        let port = |number, target_port, tls: bool| EntryPort {
            number,
            protocol: EntryProtocol::Http,
            target_port,
            tls: tls.then_some(0),
            shut: number == 82,
        };
        let entry = Entry {
            hosts: vec!["a.example".into(), "*.b.example".into()],
            addresses: vec!["192.0.2.0/24".parse().unwrap()],
            ports: vec![
                port(80, None, false),
                port(81, Some(443), true),
                port(82, None, false),
            ],
            tls: vec![EntryTls::default()],
            resolution: Resolution::None,
            endpoints: Vec::new(),
            exported_to: ExportedTo::Namespaces(vec!["apps".into(), "shop".into()]),
            order: RouteOrder {
                created_at: RouteOrder::NEVER,
                namespace: "shop".into(),
                name: "a".into(),
                rule: 0,
            },
        };
        assert_eq!(hosts(&entry), "a.example, *.b.example, 192.0.2.0/24");
        assert_eq!(
            ports(&entry),
            "80 HTTP, 81 HTTP (to 443, TLS), 82 HTTP (shut)"
        );
        assert_eq!(leads_to(&entry), "what is asked for");
        assert_eq!(exported_to(&entry), "apps, shop");
    }

    #[test]
    fn a_policy_in_words() {
        let mut policy = Policy {
            scope: PolicyScope::Namespace("shop".into()),
            from: None,
            to: None,
            action: PolicyAction::Allow,
            mode: PolicyMode::Enforce,
            allow_private: Vec::new(),
        };
        let words = |policy: &Policy| [says(policy), callers(policy), destinations(policy)];
        assert_eq!(words(&policy), ["allow", "namespace shop", "everything"]);
        policy.scope = PolicyScope::Gateway;
        policy.action = PolicyAction::Deny;
        policy.mode = PolicyMode::Report;
        policy.to = Some(vec![DestinationMatch {
            hosts: vec!["a.example".into()],
            ports: vec![443, 8443],
            paths: vec![PathMatch::Prefix("/v1".into())],
            ..DestinationMatch::default()
        }]);
        let labels = [
            LabelRequirement::In("app".into(), vec!["web".into()]),
            LabelRequirement::DoesNotExist("debug".into()),
        ];
        policy.from = Some(vec![
            CallerMatch {
                namespaces: Some(vec!["shop".into()]),
                labels: Some(LabelSelector(labels.into())),
                ..CallerMatch::default()
            },
            CallerMatch::default(),
        ]);
        assert_eq!(
            words(&policy),
            [
                "deny (report only)",
                "namespace shop, pods with app=web, !debug; or everybody",
                "a.example, port 443 or 8443, path /v1 and below",
            ]
        );
        (policy.from, policy.to) = (Some(Vec::new()), Some(Vec::new()));
        assert_eq!(words(&policy)[1..], ["nobody", "nothing"]);
    }
}
