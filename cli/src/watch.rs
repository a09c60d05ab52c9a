//! Tells when files or directories have changed, however an editor, `kubectl cp` or a mounted ConfigMap goes about it.
//!
//! What is watched are directories, never files: a file that is replaced by a rename keeps being followed. Links on the
//! way to a path are followed too, so swapping a link counts as a change of everything behind it. Because some file
//! systems send no events (network mounts, some container mounts), sizes and times are compared now and then as well.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::{Path, PathBuf},
    time::{Duration, SystemTime},
};

use anyhow::Context;
use notify::{
    Event, EventKind, RecommendedWatcher, RecursiveMode, Watcher,
    event::{AccessKind, AccessMode},
};
use portcullis_controller::manifests::is_manifest;
use tokio::{sync::mpsc, time::Instant};

/// A pause of this length ends a burst of changes.
const QUIET: Duration = Duration::from_millis(50);
/// A burst is cut off after this time, so that a busy writer cannot hold back a reload for ever.
const LONGEST_BURST: Duration = Duration::from_millis(500);
/// Events that may wait to be looked at.
const QUEUED: usize = 1024;
/// How often sizes and times are compared.
const COMPARE_EVERY: Duration = Duration::from_secs(5);
/// Directories deeper than this are not compared (a link may lead into a circle).
const MAX_DEPTH: usize = 16;

/// Follows a set of paths.
pub(crate) struct Watch {
    paths: Vec<PathBuf>,
    watcher: RecommendedWatcher,
    watched: BTreeSet<PathBuf>,
    events: mpsc::Receiver<Event>,
    seen: Fingerprint,
}

impl Watch {
    /// Starts to follow `paths`. Changes from now on are told by [`Watch::changed`].
    pub(crate) fn new(paths: &[PathBuf]) -> anyhow::Result<Self> {
        let (sender, events) = mpsc::channel(QUEUED);
        let watcher = notify::recommended_watcher(move |event: notify::Result<Event>| {
            if let Ok(event) = event
                && is_change(event.kind)
            {
                // What does not fit any more is found by comparing.
                sender.try_send(event).ok();
            }
        })
        .context(
            "the system refuses to watch files; on Linux, raise fs.inotify.max_user_instances",
        )?;
        let paths = paths
            .iter()
            .map(|path| {
                std::path::absolute(path)
                    .with_context(|| format!("cannot resolve {}", path.display()))
            })
            .collect::<anyhow::Result<Vec<_>>>()?;
        let mut watch = Self {
            seen: fingerprint(&paths),
            paths,
            watcher,
            watched: BTreeSet::new(),
            events,
        };
        watch.follow();
        Ok(watch)
    }

    /// Returns when something has changed since the last time, and the burst of changes is over. Cancel-safe up to
    /// the point where the first change of a burst is taken.
    pub(crate) async fn changed(&mut self) {
        // Goes on however busy the neighbours are.
        let mut compare = tokio::time::interval_at(Instant::now() + COMPARE_EVERY, COMPARE_EVERY);
        loop {
            tokio::select! {
                Some(event) = self.events.recv() => if self.concerns_us(&event) {
                    break self.end_of_burst().await;
                },
                _ = compare.tick() => if fingerprint(&self.paths) != self.seen {
                    break;
                },
            }
        }
        self.follow();
        self.seen = fingerprint(&self.paths);
    }

    async fn end_of_burst(&mut self) {
        let end = Instant::now() + LONGEST_BURST;
        while let Ok(Some(_)) =
            tokio::time::timeout_at(end.min(Instant::now() + QUIET), self.events.recv()).await
        {
            if Instant::now() >= end {
                break;
            }
        }
    }

    /// Brings the watched directories in line with what the paths are now.
    fn follow(&mut self) {
        let wanted: BTreeSet<PathBuf> = self
            .paths
            .iter()
            .flat_map(|path| directories_of(path))
            .collect();
        for gone in self.watched.difference(&wanted) {
            // Fails when the directory itself is gone, and then there is nothing to undo.
            self.watcher.unwatch(gone).ok();
        }
        self.watched = wanted
            .into_iter()
            .filter(|directory| match self.watcher.watch(directory, RecursiveMode::NonRecursive) {
                Ok(()) => true,
                Err(error) => {
                    tracing::warn!(directory = %directory.display(), %error, "cannot watch; comparing now and then instead");
                    false
                }
            })
            .collect();
    }

    /// A parent directory tells of its other entries too; those are none of our business. Nor is a file that is not
    /// read: it may be our own log.
    fn concerns_us(&self, event: &Event) -> bool {
        event.paths.is_empty()
            || event.paths.iter().any(|changed| {
                if is_other_file(changed) && !self.is_named(changed) {
                    return false;
                }
                self.paths
                    .iter()
                    .any(|path| path.starts_with(changed) || changed.starts_with(path))
                    || self.watched.iter().any(|directory| {
                        changed.parent() == Some(directory)
                            && fs::symlink_metadata(changed).is_ok_and(|m| m.is_symlink())
                    })
                    || self
                        .targets()
                        .any(|target| changed.starts_with(&target) || target.starts_with(changed))
            })
    }

    fn is_named(&self, file: &Path) -> bool {
        self.paths.iter().any(|path| path == file) || self.targets().any(|target| target == file)
    }

    fn targets(&self) -> impl Iterator<Item = PathBuf> {
        self.paths
            .iter()
            .filter_map(|path| fs::canonicalize(path).ok())
    }
}

/// Whether this is a file that is only read if it is named. A link may lead to anything.
fn is_other_file(path: &Path) -> bool {
    !is_manifest(path) && fs::symlink_metadata(path).is_ok_and(|metadata| metadata.is_file())
}

/// Whether an event can mean other contents. Reading a file is an event too, and we do read.
fn is_change(kind: EventKind) -> bool {
    !matches!(kind, EventKind::Access(access) if access != AccessKind::Close(AccessMode::Write))
}

/// The directories in which a change can mean a change of `path`: those that hold it or a link on the way to it, and,
/// if it is a directory, itself and all below.
fn directories_of(path: &Path) -> BTreeSet<PathBuf> {
    let mut directories = BTreeSet::new();
    for place in [Some(path.to_owned()), fs::canonicalize(path).ok()]
        .into_iter()
        .flatten()
    {
        for ancestor in place.ancestors() {
            let is_link =
                fs::symlink_metadata(ancestor).is_ok_and(|metadata| metadata.is_symlink());
            if (is_link || ancestor == place)
                && let Some(parent) = existing(ancestor.parent())
            {
                directories.insert(parent);
            }
        }
        add_tree(&place, 0, &mut directories);
    }
    directories
}

/// The nearest ancestor that is a directory now: where a vanished one will come back.
fn existing(mut directory: Option<&Path>) -> Option<PathBuf> {
    while let Some(candidate) = directory {
        if candidate.is_dir() {
            return Some(candidate.to_owned());
        }
        directory = candidate.parent();
    }
    None
}

fn add_tree(path: &Path, depth: usize, directories: &mut BTreeSet<PathBuf>) {
    if depth < MAX_DEPTH && path.is_dir() && directories.insert(path.to_owned()) {
        for entry in fs::read_dir(path).into_iter().flatten().flatten() {
            add_tree(&entry.path(), depth + 1, directories);
        }
    }
}

/// Length and time of change of every file behind the paths.
type Fingerprint = BTreeMap<PathBuf, (u64, Option<SystemTime>)>;

fn fingerprint(paths: &[PathBuf]) -> Fingerprint {
    let mut all = Fingerprint::new();
    for path in paths {
        add_files(path, 0, &mut all);
    }
    all
}

fn add_files(path: &Path, depth: usize, all: &mut Fingerprint) {
    let Ok(metadata) = fs::metadata(path) else {
        return;
    };
    if metadata.is_dir() {
        if depth < MAX_DEPTH {
            for entry in fs::read_dir(path).into_iter().flatten().flatten() {
                let path = entry.path();
                if !is_other_file(&path) {
                    add_files(&path, depth + 1, all);
                }
            }
        }
    } else {
        all.insert(path.to_owned(), (metadata.len(), metadata.modified().ok()));
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    /// Longer than any machine needs: it is a bound on a failing test, not a wait.
    const PATIENCE: Duration = Duration::from_mins(1);

    async fn sees(watch: &mut Watch, change: impl FnOnce()) {
        change();
        tokio::time::timeout(PATIENCE, watch.changed())
            .await
            .expect("the change went unnoticed");
    }

    #[tokio::test]
    async fn writing_creating_renaming_over_and_deleting_are_seen() {
        let root = tempfile::tempdir().unwrap();
        let file = root.path().join("a.yaml");
        fs::write(&file, "1").unwrap();
        let mut watch = Watch::new(&[root.path().to_owned()]).unwrap();

        sees(&mut watch, || fs::write(&file, "2").unwrap()).await;
        sees(&mut watch, || {
            fs::write(root.path().join("b.yaml"), "new").unwrap();
        })
        .await;
        sees(&mut watch, || {
            fs::write(root.path().join(".a.swp"), "3").unwrap();
            fs::rename(root.path().join(".a.swp"), &file).unwrap();
        })
        .await;
        sees(&mut watch, || fs::remove_file(&file).unwrap()).await;
    }

    #[tokio::test]
    async fn a_log_in_the_directory_is_no_change() {
        let root = tempfile::tempdir().unwrap();
        let log = root.path().join("access.log");
        fs::write(root.path().join("a.yaml"), "1").unwrap();
        fs::write(&log, "a line").unwrap();
        let watch = Watch::new(&[root.path().to_owned()]).unwrap();
        let event = |path: &Path| Event::new(EventKind::Any).add_path(path.to_owned());
        assert!(!watch.concerns_us(&event(&log)));
        assert!(watch.concerns_us(&event(&root.path().join("a.yaml"))));
        assert!(watch.concerns_us(&event(&root.path().join("gone"))));
        fs::write(&log, "a line and another").unwrap();
        assert_eq!(fingerprint(&watch.paths), watch.seen);

        let named = Watch::new(std::slice::from_ref(&log)).unwrap();
        assert!(named.concerns_us(&event(&log)));
    }

    #[tokio::test]
    async fn a_single_file_is_followed_through_replacement() {
        let root = tempfile::tempdir().unwrap();
        let file = root.path().join("a.yaml");
        fs::write(&file, "1").unwrap();
        let mut watch = Watch::new(std::slice::from_ref(&file)).unwrap();
        for text in ["2", "3"] {
            sees(&mut watch, || {
                fs::write(root.path().join("new"), text).unwrap();
                fs::rename(root.path().join("new"), &file).unwrap();
            })
            .await;
        }
    }

    #[tokio::test]
    async fn a_swapped_link_is_a_change_as_mounted_config_maps_do_it() {
        let root = tempfile::tempdir().unwrap();
        let mount = root.path().join("mount");
        for version in ["..1", "..2"] {
            fs::create_dir_all(mount.join(version)).unwrap();
            fs::write(mount.join(version).join("a.yaml"), version).unwrap();
        }
        symlink("..1", mount.join("..data")).unwrap();
        symlink("..data/a.yaml", mount.join("a.yaml")).unwrap();
        let mut watch = Watch::new(std::slice::from_ref(&mount)).unwrap();
        sees(&mut watch, || {
            symlink("..2", mount.join("..data_tmp")).unwrap();
            fs::rename(mount.join("..data_tmp"), mount.join("..data")).unwrap();
        })
        .await;
    }

    #[tokio::test]
    async fn a_link_in_the_middle_of_the_path_is_followed() {
        let root = tempfile::tempdir().unwrap();
        for release in ["one", "two"] {
            fs::create_dir_all(root.path().join(release).join("routes")).unwrap();
        }
        let current = root.path().join("current");
        symlink("one", &current).unwrap();
        let mut watch = Watch::new(&[current.join("routes")]).unwrap();
        sees(&mut watch, || {
            symlink("two", root.path().join("next")).unwrap();
            fs::rename(root.path().join("next"), &current).unwrap();
        })
        .await;
        sees(&mut watch, || {
            fs::write(root.path().join("two/routes/a.yaml"), "x").unwrap();
        })
        .await;
    }

    #[tokio::test]
    async fn a_directory_that_vanishes_and_comes_back_is_followed() {
        let root = tempfile::tempdir().unwrap();
        let directory = root.path().join("manifests");
        fs::create_dir(&directory).unwrap();
        let mut watch = Watch::new(std::slice::from_ref(&directory)).unwrap();
        sees(&mut watch, || fs::remove_dir(&directory).unwrap()).await;
        sees(&mut watch, || fs::create_dir(&directory).unwrap()).await;
        sees(&mut watch, || {
            fs::write(directory.join("a.yaml"), "x").unwrap();
        })
        .await;
    }

    #[tokio::test(start_paused = true)]
    async fn busy_neighbours_do_not_hold_back_the_comparison() {
        let root = tempfile::tempdir().unwrap();
        let directory = root.path().join("manifests");
        fs::create_dir(&directory).unwrap();
        let mut watch = Watch::new(std::slice::from_ref(&directory)).unwrap();
        // As on a file system that sends no events, beside one that does.
        let (sender, events) = mpsc::channel(QUEUED);
        watch.events = events;
        fs::write(directory.join("a.yaml"), "x").unwrap();
        let neighbours = async {
            loop {
                tokio::time::sleep(COMPARE_EVERY / 2).await;
                let event = Event::new(EventKind::Any).add_path(root.path().join("other"));
                sender.send(event).await.unwrap();
            }
        };
        tokio::select! {
            seen = tokio::time::timeout(PATIENCE, watch.changed()) => {
                seen.expect("the change went unnoticed");
            }
            () = neighbours => {}
        }
    }

    #[tokio::test]
    async fn reading_is_no_change_and_neither_are_the_neighbours() {
        let root = tempfile::tempdir().unwrap();
        let directory = root.path().join("manifests");
        fs::create_dir(&directory).unwrap();
        fs::write(directory.join("a.yaml"), "x").unwrap();
        let watch = Watch::new(std::slice::from_ref(&directory)).unwrap();
        let neighbour = Event::new(EventKind::Any).add_path(root.path().join("other"));
        let ours = Event::new(EventKind::Any).add_path(directory.join("a.yaml"));
        assert!(!watch.concerns_us(&neighbour));
        assert!(watch.concerns_us(&ours));
        assert!(!is_change(EventKind::Access(AccessKind::Read)));
        assert!(!is_change(EventKind::Access(AccessKind::Close(
            AccessMode::Read
        ))));
        assert!(is_change(EventKind::Access(AccessKind::Close(
            AccessMode::Write
        ))));
    }
}
