//! What is built from Go modules, and the cache of it: a build is kept under the hash of its inputs, outside of the
//! checkout.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Stdio,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail};
use tokio::{
    io::{AsyncBufReadExt, BufReader},
    process::Command,
    time::{MissedTickBehavior, interval},
};

use super::toolchain::{self, Toolchain};
use crate::support::{binaries::cache, digest::sha256, process::output_of};

/// How often a build says how far it is.
const PROGRESS: Duration = Duration::from_secs(10);
/// How many lines of a failed build stand in the error.
const LAST_WORDS: usize = 40;

/// A program that is built from one of the Go modules in `e2e/`.
pub(crate) struct GoProgram {
    pub(crate) name: &'static str,
    /// Folder of the module, below `e2e/`.
    module: &'static str,
    package: &'static str,
    /// Source files of our own, below the module's folder.
    sources: &'static [&'static str],
    toolchain: &'static Toolchain,
    /// Its tests as a program, not the program itself.
    test: bool,
    /// The dependency whose version the program tells as its own, and the variables that hold it.
    version: Option<(&'static str, &'static [&'static str])>,
}

/// All programs of Kubernetes in one; its name in `argv[0]` says which.
pub(crate) const KUBERNETES: GoProgram = GoProgram {
    name: "kubernetes",
    module: "cluster",
    package: ".",
    sources: &["main.go"],
    toolchain: &toolchain::KUBERNETES,
    test: false,
    version: Some((
        "k8s.io/kubernetes",
        &["k8s.io/component-base/version.gitVersion"],
    )),
};
/// The names that [`KUBERNETES`] knows.
pub(crate) const KUBERNETES_PROGRAMS: [&str; 6] = [
    "kube-apiserver",
    "kube-controller-manager",
    "kube-scheduler",
    "kubelet",
    "kube-proxy",
    "kubectl",
];
/// What holds a pod's namespaces.
pub(crate) const PAUSE: GoProgram = GoProgram {
    name: "pause",
    module: "cluster",
    package: "./pause",
    sources: &["pause/main.go"],
    toolchain: &toolchain::KUBERNETES,
    test: false,
    version: None,
};
/// The echo backend of the conformance suite.
pub(crate) const ECHO: GoProgram = GoProgram {
    name: "echo-basic",
    module: "cluster/echo",
    package: "sigs.k8s.io/gateway-api/conformance/echo-basic",
    sources: &[],
    toolchain: &toolchain::KUBERNETES,
    test: false,
    version: None,
};
/// An HTTP client as programs in Go have it.
pub(crate) const CLIENT: GoProgram = GoProgram {
    name: "client",
    module: "cluster",
    package: "./client",
    sources: &["client/main.go"],
    toolchain: &toolchain::KUBERNETES,
    test: false,
    version: None,
};
/// Helm.
pub(crate) const HELM: GoProgram = GoProgram {
    name: "helm",
    module: "cluster/helm",
    package: "helm.sh/helm/v4/cmd/helm",
    sources: &[],
    toolchain: &toolchain::KUBERNETES,
    test: false,
    version: Some((
        "helm.sh/helm/v4",
        &["helm.sh/helm/v4/internal/version.version"],
    )),
};
/// `CoreDNS`.
pub(crate) const DNS: GoProgram = GoProgram {
    name: "dns",
    module: "cluster/dns",
    package: ".",
    sources: &["main.go"],
    toolchain: &toolchain::KUBERNETES,
    test: false,
    version: None,
};
/// The conformance suite of Gateway API.
pub(crate) const CONFORMANCE: GoProgram = GoProgram {
    name: "conformance.test",
    module: "conformance",
    package: ".",
    sources: &["conformance_test.go"],
    toolchain: &toolchain::CONFORMANCE,
    test: true,
    version: None,
};

impl GoProgram {
    /// Where the program is in the cache; builds it if it is not there yet.
    pub(crate) async fn get(&self) -> Result<PathBuf> {
        let folder = self.folder()?;
        let program = folder.join(self.name);
        if !program.is_file() {
            self.build(&program)
                .await
                .with_context(|| format!("cannot build {}", self.name))?;
        }
        Ok(program)
    }

    /// Whether the program is in the cache.
    pub(crate) fn is_cached(&self) -> Result<bool> {
        Ok(self.folder()?.join(self.name).is_file())
    }

    pub(crate) fn toolchain(&self) -> &'static Toolchain {
        self.toolchain
    }

    /// Strips the program, and makes it tell the version of the dependency that it is.
    fn linker_flags(&self) -> Result<String> {
        let mut flags = "-s -w".to_owned();
        if let Some((dependency, variables)) = self.version {
            let version = required_version(&module_folder(self.module), dependency)?;
            for variable in variables {
                flags = format!("{flags} -X {variable}={version}");
            }
        }
        Ok(flags)
    }

    fn folder(&self) -> Result<PathBuf> {
        let module = module_folder(self.module);
        let mut hash = Hash::default();
        hash.add(self.package);
        hash.add(self.toolchain.series);
        for file in ["go.mod", "go.sum"].iter().chain(self.sources) {
            let path = module.join(file);
            hash.add(fs::read(&path).with_context(|| path.display().to_string())?);
        }
        cached(self.name, &hash)
    }

    async fn build(&self, program: &Path) -> Result<()> {
        let start = Instant::now();
        let go = self.toolchain.get().await?;
        let module = module_folder(self.module);
        println!("{}: resolving packages", self.name);
        let mut list = go_command(&go, &module);
        list.args(["list", "-deps"]);
        if self.test {
            list.arg("-test");
        }
        let packages = output_of(list_of(list, self.package))
            .await?
            .lines()
            .count();

        let part = program.with_extension("part");
        fs::create_dir_all(program.parent().context("a cached file has a folder")?)?;
        let mut build = go_command(&go, &module);
        if self.test {
            build.args(["test", "-c"]);
        } else {
            build.arg("build");
        }
        build
            .args(["-v", "-trimpath", "-buildvcs=false", "-ldflags"])
            .arg(self.linker_flags()?)
            .arg("-o")
            .arg(&part);
        watch(list_of(build, self.package), self.name, packages).await?;
        fs::rename(&part, program)?;
        println!(
            "{}: built in {:.0} s, {} MiB, kept in {}",
            self.name,
            start.elapsed().as_secs_f64(),
            fs::metadata(program)?.len() >> 20,
            program.display()
        );
        Ok(())
    }
}

fn list_of(mut command: Command, package: &str) -> Command {
    command.arg(package);
    command
}

/// Runs a build that names each package on standard error, and says from time to time how far it is.
async fn watch(mut build: Command, name: &str, packages: usize) -> Result<()> {
    let start = Instant::now();
    let mut child = build
        .stdin(Stdio::null())
        .stderr(Stdio::piped())
        .kill_on_drop(true)
        .spawn()?;
    let output = child.stderr.take().context("the output is piped")?;
    let mut lines = BufReader::new(output).lines();
    let mut seen = Vec::new();
    let mut clock = interval(PROGRESS);
    clock.set_missed_tick_behavior(MissedTickBehavior::Skip);
    loop {
        tokio::select! {
            line = lines.next_line() => match line? {
                Some(line) => seen.push(line),
                None => break,
            },
            _ = clock.tick() => println!(
                "{name}: building, {} of at most {packages} packages after {:.0} s",
                seen.len(),
                start.elapsed().as_secs_f64()
            ),
        }
    }
    let status = child.wait().await?;
    if !status.success() {
        let last = &seen[seen.len().saturating_sub(LAST_WORDS)..];
        bail!("go ended with {status}:\n{}", last.join("\n"));
    }
    Ok(())
}

fn go_command(go: &Path, module: &Path) -> Command {
    let mut command = Command::new(go);
    command
        .current_dir(module)
        .env("CGO_ENABLED", "0")
        .env("GOTOOLCHAIN", "local")
        .env("GOWORK", "off")
        // What the user has set there might change what is built.
        .env("GOFLAGS", "-mod=readonly");
    command
}

/// A module of the end-to-end programs.
fn module_folder(module: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(module)
}

/// The version of `dependency` in a module's `go.mod`.
fn required_version(module: &Path, dependency: &str) -> Result<String> {
    let file = module.join("go.mod");
    let text = fs::read_to_string(&file)?;
    version_in(&text, dependency)
        .map(str::to_owned)
        .with_context(|| format!("{} does not require {dependency}", file.display()))
}

/// The version of `dependency` that a `go.mod` names: that of the replacement where there is one.
fn version_in<'a>(text: &'a str, dependency: &str) -> Option<&'a str> {
    let version = |line: &'a str| {
        let words: Vec<&str> = line.split_whitespace().collect();
        words
            .windows(2)
            .find(|pair| pair[0] == dependency && pair[1].starts_with('v'))
            .map(|pair| pair[1])
    };
    text.lines()
        .filter(|line| line.contains("=>"))
        .find_map(version)
        .or_else(|| text.lines().find_map(version))
}

/// The module that holds the definitions of Gateway API.
const GATEWAY_API: &str = "sigs.k8s.io/gateway-api";

/// The definitions of Gateway API as released, and their version: the standard channel is the folder itself, below it is
/// `experimental/`.
pub(crate) async fn gateway_api() -> Result<(PathBuf, String)> {
    let (folder, version) = gateway_api_folder()?;
    if !folder.is_dir() {
        // The release can only be fetched by the Go that it says it needs.
        let go = toolchain::CONFORMANCE.get().await?;
        let mut download = go_command(&go, Path::new("/"));
        download.args([
            "mod",
            "download",
            "-json",
            &format!("{GATEWAY_API}@{version}"),
        ]);
        let told: serde_json::Value = serde_json::from_str(&output_of(download).await?)?;
        let source = told["Dir"].as_str().context("go tells no folder")?;
        let part = folder.with_extension("part");
        if part.exists() {
            fs::remove_dir_all(&part)?;
        }
        fs::create_dir_all(part.parent().context("a cached folder has a parent")?)?;
        copy_folder(&Path::new(source).join("config/crd"), &part)?;
        fs::rename(&part, &folder)?;
    }
    Ok((folder, version))
}

/// Whether the definitions are in the cache.
pub(crate) fn gateway_api_is_cached() -> Result<bool> {
    Ok(gateway_api_folder()?.0.is_dir())
}

fn gateway_api_folder() -> Result<(PathBuf, String)> {
    let version = required_version(&module_folder("conformance"), GATEWAY_API)?;
    let mut hash = Hash::default();
    hash.add(&version);
    Ok((cached("gateway-api-crds", &hash)?, version))
}

fn copy_folder(from: &Path, to: &Path) -> Result<()> {
    fs::create_dir_all(to)?;
    for entry in fs::read_dir(from)? {
        let entry = entry?;
        let target = to.join(entry.file_name());
        if entry.file_type()?.is_dir() {
            copy_folder(&entry.path(), &target)?;
        } else {
            // Not `fs::copy`: the module cache is read-only, and its copy must not be.
            fs::write(target, fs::read(entry.path())?)?;
        }
    }
    Ok(())
}

/// Collects the inputs of something that is cached.
#[derive(Default)]
struct Hash(Vec<u8>);

impl Hash {
    /// Adds one input; where it ends counts, too.
    fn add(&mut self, input: impl AsRef<[u8]>) {
        let input = input.as_ref();
        self.0.extend(input.len().to_le_bytes());
        self.0.extend(input);
    }
}

/// Where something with these inputs is cached.
fn cached(name: &str, hash: &Hash) -> Result<PathBuf> {
    let digest = sha256(&hash.0);
    let short = digest.get(..16).unwrap_or(&digest);
    Ok(cache()?.join("e2e").join(format!("{name}-{short}")))
}

#[cfg(test)]
mod tests {
    use super::{Hash, version_in};

    #[test]
    fn the_replacement_says_the_version() {
        let text = "require (\n\ta.example/b v1.2.3\n\ta.example/b/c v0.1.0 // indirect\n)\n\
                    require a.example/d v0.0.0\nreplace a.example/d => a.example/d v1.7.0\n";
        assert_eq!(version_in(text, "a.example/b"), Some("v1.2.3"));
        assert_eq!(version_in(text, "a.example/d"), Some("v1.7.0"));
        assert_eq!(version_in(text, "a.example/e"), None);
    }

    #[test]
    fn inputs_do_not_run_into_each_other() {
        let of = |inputs: &[&str]| {
            let mut hash = Hash::default();
            for input in inputs {
                hash.add(input);
            }
            super::cached("name", &hash).unwrap()
        };
        assert_ne!(of(&["ab", "c"]), of(&["a", "bc"]));
        assert_eq!(of(&["ab", "c"]), of(&["ab", "c"]));
    }
}
