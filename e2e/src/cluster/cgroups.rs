//! The control group hierarchies of the machine, and the pods' own group in each of them.

use std::{
    fs,
    path::{Path, PathBuf},
};

use anyhow::{Context, Result};

use super::layout::CGROUP;

/// Files of a `cpuset` group that are empty in a new one, and then forbid every process (version 1 only).
const CPUSET: [&str; 2] = ["cpuset.cpus", "cpuset.mems"];
/// What the kubelet limits and measures, by version 2's names.
const CONTROLLERS: &str = "+cpuset +cpu +io +memory +pids";

/// Mount points of all hierarchies: one with version 2, one for each controller with version 1.
pub(super) fn hierarchies() -> Vec<PathBuf> {
    fs::read_to_string("/proc/self/mounts")
        .unwrap_or_default()
        .lines()
        .filter_map(|line| {
            let mut fields = line.split(' ').skip(1);
            let (target, kind) = (fields.next()?, fields.next()?);
            kind.starts_with("cgroup").then(|| PathBuf::from(target))
        })
        .collect()
}

/// Makes the pods' group in every hierarchy.
pub(super) fn create() -> Result<()> {
    for hierarchy in hierarchies() {
        let group = hierarchy.join(CGROUP);
        fs::create_dir(&group)
            .with_context(|| format!("cannot make the cgroup {}", group.display()))?;
        for file in CPUSET {
            let parent = hierarchy.join(file);
            if parent.exists() {
                fs::write(group.join(file), fs::read(parent)?)?;
            }
        }
    }
    // With version 2 alone, a parent decides what its children can limit.
    let unified = Path::new("/sys/fs/cgroup/cgroup.subtree_control");
    if unified.exists() {
        fs::write(unified, CONTROLLERS)
            .with_context(|| format!("cannot enable controllers in {}", unified.display()))?;
    }
    Ok(())
}
