//! An OCI image in a tarball: one layer from scratch, no registry, no daemon. The same files give the same bytes.

use std::{
    fs,
    io::Write,
    path::{Path, PathBuf},
};

use super::libraries;
use crate::support::digest::sha256;
use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};

/// The user that images run as, by number: Kubernetes can then tell that it is not root.
const USER: u32 = 65532;
/// Where the machine keeps the authorities it trusts (Debian and its kin).
const AUTHORITIES: &str = "/etc/ssl/certs/ca-certificates.crt";
const PASSWD: &str =
    "root:x:0:0:root:/:/sbin/nologin\nnonroot:x:65532:65532:nonroot:/:/sbin/nologin\n";
const GROUP: &str = "root:x:0:\nnonroot:x:65532:\n";
/// The architecture that a binary of this program's own build runs on.
const ARCHITECTURE: &str = if cfg!(target_arch = "aarch64") {
    "arm64"
} else {
    "amd64"
};

/// What goes into an image.
pub(crate) struct Image<'a> {
    /// Full names, with registry and tag. `latest` is refused: the kubelet would try to pull it.
    pub(crate) names: &'a [&'a str],
    /// The one program, and what the image runs. The shared libraries it needs come along.
    pub(crate) program: &'a Path,
    /// Name of the program in the image.
    pub(crate) entrypoint: &'a str,
    /// Whether the machine's trusted authorities come along.
    pub(crate) authorities: bool,
}

struct Blob {
    digest: String,
    bytes: Vec<u8>,
}

impl Image<'_> {
    /// Writes the tarball to `output`.
    pub(crate) fn pack(&self, output: &Path) -> Result<()> {
        for name in self.names {
            let tag = name
                .rsplit_once('/')
                .and_then(|(_, rest)| rest.split_once(':'));
            ensure!(
                tag.is_some_and(|(_, tag)| !tag.is_empty() && tag != "latest"),
                "image name `{name}`: give it as registry/name:tag with a tag other than `latest`, which is never pulled"
            );
        }
        let layer = Blob::new(self.layer()?);
        let config = Blob::of_json(&self.config(&layer))?;
        let manifest = Blob::of_json(&json!({
            "schemaVersion": 2,
            "mediaType": "application/vnd.oci.image.manifest.v1+json",
            "config": config.descriptor("application/vnd.oci.image.config.v1+json"),
            "layers": [layer.descriptor("application/vnd.oci.image.layer.v1.tar")],
        }))?;
        let manifests: Vec<Value> = self
            .names
            .iter()
            .map(|name| {
                let mut descriptor =
                    manifest.descriptor("application/vnd.oci.image.manifest.v1+json");
                descriptor["platform"] = json!({ "architecture": ARCHITECTURE, "os": "linux" });
                descriptor["annotations"] = json!({
                    "io.containerd.image.name": name,
                    "org.opencontainers.image.ref.name": name,
                });
                descriptor
            })
            .collect();
        let index = json!({
            "schemaVersion": 2,
            "mediaType": "application/vnd.oci.image.index.v1+json",
            "manifests": manifests,
        });

        let mut tarball = Tarball::default();
        tarball.file("oci-layout", br#"{"imageLayoutVersion":"1.0.0"}"#, 0o644)?;
        tarball.file("index.json", &serde_json::to_vec(&index)?, 0o644)?;
        for blob in [&layer, &config, &manifest] {
            tarball.file(&format!("blobs/sha256/{}", blob.digest), &blob.bytes, 0o644)?;
        }
        write_whole(output, &tarball.close()?)
    }

    fn layer(&self) -> Result<Vec<u8>> {
        let mut layer = Tarball::default();
        let read = |path: &Path| fs::read(path).with_context(|| path.display().to_string());
        layer.file("etc/passwd", PASSWD.as_bytes(), 0o644)?;
        layer.file("etc/group", GROUP.as_bytes(), 0o644)?;
        // A read-only root file system still has the mount point.
        layer.folder("tmp/", 0o1777)?;
        if self.authorities {
            layer.file(&AUTHORITIES[1..], &read(Path::new(AUTHORITIES))?, 0o644)?;
        }
        for library in libraries::of(self.program)? {
            let name = library.strip_prefix("/")?.to_string_lossy().into_owned();
            layer.file(&name, &read(&library)?, 0o755)?;
        }
        layer.file(self.entrypoint, &read(self.program)?, 0o755)?;
        layer.close()
    }

    fn config(&self, layer: &Blob) -> Value {
        json!({
            "architecture": ARCHITECTURE,
            "os": "linux",
            "config": {
                "User": format!("{USER}:{USER}"),
                "Entrypoint": [format!("/{}", self.entrypoint)],
                "WorkingDir": "/",
            },
            "rootfs": { "type": "layers", "diff_ids": [format!("sha256:{}", layer.digest)] },
        })
    }
}

/// Writes beside and renames, so that nobody ever finds half an image.
fn write_whole(path: &Path, bytes: &[u8]) -> Result<()> {
    let part = PathBuf::from(format!("{}.part", path.display()));
    fs::File::create(&part)
        .and_then(|mut file| file.write_all(bytes))
        .and_then(|()| fs::rename(&part, path))
        .with_context(|| format!("cannot write {}", path.display()))
}

impl Blob {
    fn new(bytes: Vec<u8>) -> Self {
        Self {
            digest: sha256(&bytes),
            bytes,
        }
    }

    fn of_json(value: &Value) -> Result<Self> {
        Ok(Self::new(serde_json::to_vec(value)?))
    }

    fn descriptor(&self, media_type: &str) -> Value {
        json!({
            "mediaType": media_type,
            "digest": format!("sha256:{}", self.digest),
            "size": self.bytes.len(),
        })
    }
}

/// A tarball in memory, owned by root, without times.
struct Tarball(tar::Builder<Vec<u8>>);

impl Default for Tarball {
    fn default() -> Self {
        Self(tar::Builder::new(Vec::new()))
    }
}

impl Tarball {
    fn file(&mut self, name: &str, bytes: &[u8], mode: u32) -> Result<()> {
        self.entry(name, tar::EntryType::Regular, bytes, mode)
    }

    fn folder(&mut self, name: &str, mode: u32) -> Result<()> {
        self.entry(name, tar::EntryType::Directory, &[], mode)
    }

    fn entry(&mut self, name: &str, kind: tar::EntryType, bytes: &[u8], mode: u32) -> Result<()> {
        let mut header = tar::Header::new_gnu();
        header.set_entry_type(kind);
        header.set_mode(mode);
        header.set_uid(0);
        header.set_gid(0);
        header.set_mtime(0);
        header.set_size(bytes.len() as u64);
        Ok(self.0.append_data(&mut header, name, bytes)?)
    }

    fn close(self) -> Result<Vec<u8>> {
        Ok(self.0.into_inner()?)
    }
}

#[cfg(test)]
mod tests {
    use std::{collections::BTreeMap, io::Read, path::Path};

    use serde_json::Value;

    use super::Image;
    use crate::support::digest::sha256;

    fn entries(bytes: &[u8]) -> BTreeMap<String, Vec<u8>> {
        tar::Archive::new(bytes)
            .entries()
            .unwrap()
            .map(|entry| {
                let mut entry = entry.unwrap();
                let mut bytes = Vec::new();
                entry.read_to_end(&mut bytes).unwrap();
                (entry.path().unwrap().to_string_lossy().into_owned(), bytes)
            })
            .collect()
    }

    fn pack(names: &[&str], output: &Path) -> anyhow::Result<()> {
        Image {
            names,
            // Any dynamically linked program will do; this one is always there.
            program: &std::env::current_exe()?,
            entrypoint: "program",
            authorities: false,
        }
        .pack(output)
    }

    fn blob<'a>(files: &'a BTreeMap<String, Vec<u8>>, descriptor: &Value) -> &'a [u8] {
        let digest = descriptor["digest"].as_str().unwrap();
        let bytes = &files[&format!("blobs/{}", digest.replace(':', "/"))];
        assert_eq!(digest, format!("sha256:{}", sha256(bytes)));
        assert_eq!(descriptor["size"], bytes.len());
        bytes
    }

    #[test]
    fn every_descriptor_points_at_its_blob_and_the_program_finds_its_libraries() {
        let folder = tempfile::tempdir().unwrap();
        let output = folder.path().join("image.tar");
        pack(&["registry.example/a:1", "registry.example/b:2"], &output).unwrap();
        let files = entries(&std::fs::read(&output).unwrap());
        let index: Value = serde_json::from_slice(&files["index.json"]).unwrap();
        let names: Vec<&str> = index["manifests"]
            .as_array()
            .unwrap()
            .iter()
            .map(|manifest| {
                manifest["annotations"]["io.containerd.image.name"]
                    .as_str()
                    .unwrap()
            })
            .collect();
        assert_eq!(names, ["registry.example/a:1", "registry.example/b:2"]);

        let manifest: Value = serde_json::from_slice(blob(&files, &index["manifests"][1])).unwrap();
        let config: Value = serde_json::from_slice(blob(&files, &manifest["config"])).unwrap();
        assert_eq!(config["config"]["Entrypoint"][0], "/program");
        assert_eq!(
            config["rootfs"]["diff_ids"][0],
            manifest["layers"][0]["digest"]
        );
        let layer = entries(blob(&files, &manifest["layers"][0]));
        assert!(layer.contains_key("program"));
        assert!(
            layer.keys().any(|name| name.contains("libc.so")),
            "{:?}",
            layer.keys()
        );
    }

    #[test]
    fn the_same_files_give_the_same_bytes() {
        let folder = tempfile::tempdir().unwrap();
        let outputs = ["1.tar", "2.tar"].map(|name| folder.path().join(name));
        let bytes = outputs.map(|output| {
            pack(&["registry.example/a:1"], &output).unwrap();
            std::fs::read(output).unwrap()
        });
        assert!(bytes[0] == bytes[1]);
    }

    #[test]
    fn a_name_that_would_be_pulled_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        for name in ["a/b", "a/b:latest", "b:", "registry.example:5000/b"] {
            let error = pack(&[name], &folder.path().join("image.tar")).unwrap_err();
            assert!(error.to_string().contains(name), "{error}");
        }
    }
}
