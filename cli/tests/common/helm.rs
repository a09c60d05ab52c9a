//! A program in Helm's place. It writes down what it is called with.

use std::{
    fs,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
};

use tempfile::TempDir;

/// What it says and does.
pub(crate) struct Answers<'a> {
    /// What it says that it is.
    pub(crate) version: &'a str,
    /// Shell commands in place of `helm history`.
    pub(crate) history: &'a str,
    /// JSON, the answer to `helm get values`.
    pub(crate) values: &'a str,
    /// Shell commands in place of `helm template` and `helm upgrade`.
    pub(crate) work: &'a str,
}

/// It knows no release and does nothing.
impl Default for Answers<'_> {
    fn default() -> Self {
        Self {
            version: "v3.14.0",
            history: "echo 'Error: release: not found' >&2; exit 1",
            values: "null",
            work: "",
        }
    }
}

/// The folder that it is in.
pub(crate) struct FakeHelm(TempDir);

impl FakeHelm {
    pub(crate) fn new(answers: &Answers<'_>) -> Self {
        let Answers {
            version,
            history,
            values,
            work,
        } = answers;
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().display();
        let script = format!(
            "#!/bin/sh\nPATH=/usr/bin:/bin\ncase \"$1\" in\n\
             version) echo '{version}' ;;\n\
             history) {history} ;;\n\
             get) printf '%s\\n' \"$*\" > {path}/get; echo '{values}' ;;\n\
             *) printf '%s\\n' \"$@\" > {path}/arguments; cp -r \"$3\" {path}/chart\n{work}\n;;\nesac\n"
        );
        let program = folder.path().join("helm");
        fs::write(&program, script).unwrap();
        fs::set_permissions(&program, fs::Permissions::from_mode(0o755)).unwrap();
        Self(folder)
    }

    /// The folder, for the PATH.
    pub(crate) fn path(&self) -> &Path {
        self.0.path()
    }

    /// What is to be in the folder, or is.
    pub(crate) fn file(&self, name: &str) -> PathBuf {
        self.path().join(name)
    }
}
