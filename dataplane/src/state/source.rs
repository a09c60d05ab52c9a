//! Where tables come from.

use std::{
    io,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use notify::{RecommendedWatcher, RecursiveMode, Watcher};
use portcullis_routing::RoutingTable;
use sha2::{Digest as _, Sha256};
use tokio::sync::{Notify, watch};

/// A file counts as written when nothing happened in its directory for so long.
const SETTLE: Duration = Duration::from_millis(20);

/// In a directory that is never quiet the file is read after so long.
const SETTLE_AT_MOST: Duration = Duration::from_secs(1);

/// Why a source gave no table. It goes on watching.
#[derive(Debug, thiserror::Error)]
pub enum SourceError {
    /// The file could not be read.
    #[error("cannot read {}: {error}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// What the system said.
        error: io::Error,
    },
    /// The file holds no routing table.
    #[error("{} holds no routing table: {error}", path.display())]
    Decode {
        /// The file.
        path: PathBuf,
        /// Line, column and what was wrong there.
        error: serde_json::Error,
    },
}

/// A source of tables: the newest one counts, those in between may be skipped.
#[derive(Debug)]
pub enum TableSource {
    /// Tables made in this process.
    Channel(watch::Receiver<Option<Arc<RoutingTable>>>),
    /// A JSON file, read again whenever it changes.
    File(FileSource),
}

impl TableSource {
    /// A source and the end that feeds it; the source ends when that end is dropped.
    pub fn channel() -> (watch::Sender<Option<Arc<RoutingTable>>>, Self) {
        let (sender, receiver) = watch::channel(None);
        (sender, Self::Channel(receiver))
    }

    /// The file at `path`, which need not exist yet. Fails if its directory cannot be watched.
    pub fn file(path: &Path) -> notify::Result<Self> {
        FileSource::watch(path).map(Self::File)
    }

    /// The next table; `None` when there will be no more. Not to be cancelled: a change could be lost.
    pub async fn next(&mut self) -> Option<Result<Arc<RoutingTable>, SourceError>> {
        match self {
            Self::Channel(receiver) => loop {
                receiver.changed().await.ok()?;
                if let Some(table) = receiver.borrow_and_update().clone() {
                    return Some(Ok(table));
                }
            },
            Self::File(file) => Some(file.next().await),
        }
    }
}

/// Watches the directory of a file, so that a file that is replaced by renaming (or by moving a symbolic link, as
/// Kubernetes does with ConfigMaps) is seen as well as one that is written in place.
#[derive(Debug)]
pub struct FileSource {
    path: PathBuf,
    changed: Arc<Notify>,
    /// Hash of what was read last, to tell real changes from other events in the directory.
    read: Option<[u8; 32]>,
    /// How reading failed the last time. It is told once: the directory may hold our own log.
    failed: Option<io::ErrorKind>,
    /// Stops watching when dropped.
    _watcher: RecommendedWatcher,
}

impl FileSource {
    fn watch(path: &Path) -> notify::Result<Self> {
        let changed = Arc::new(Notify::new());
        // The file as it is now is the first change.
        changed.notify_one();
        let tell = Arc::clone(&changed);
        let mut watcher =
            notify::recommended_watcher(move |event: notify::Result<notify::Event>| {
                // Reading the file is an event too; it must not lead to another read.
                if !event.is_ok_and(|event| event.kind.is_access()) {
                    tell.notify_one();
                }
            })?;
        let directory = path
            .parent()
            .filter(|parent| !parent.as_os_str().is_empty())
            .unwrap_or(Path::new("."));
        watcher.watch(directory, RecursiveMode::NonRecursive)?;
        Ok(Self {
            path: path.to_owned(),
            changed,
            read: None,
            failed: None,
            _watcher: watcher,
        })
    }

    async fn next(&mut self) -> Result<Arc<RoutingTable>, SourceError> {
        loop {
            self.changed.notified().await;
            self.settled().await;
            let content = match std::fs::read(&self.path) {
                Ok(content) => content,
                // Between two renames, or not there yet.
                Err(error) if error.kind() == io::ErrorKind::NotFound && self.read.is_some() => {
                    continue;
                }
                Err(error) if self.failed == Some(error.kind()) => continue,
                Err(error) => {
                    self.failed = Some(error.kind());
                    return Err(SourceError::Read {
                        path: self.path.clone(),
                        error,
                    });
                }
            };
            self.failed = None;
            let hash: [u8; 32] = Sha256::digest(&content).into();
            if self.read.replace(hash) != Some(hash) {
                return decode(&content).map_err(|error| SourceError::Decode {
                    path: self.path.clone(),
                    error,
                });
            }
        }
    }

    /// Waits until the directory has been quiet for a moment, so that a file is not read half-written.
    async fn settled(&self) {
        let quiet = async {
            while tokio::time::timeout(SETTLE, self.changed.notified())
                .await
                .is_ok()
            {}
        };
        // Quiet or not, it is read now.
        _ = tokio::time::timeout(SETTLE_AT_MOST, quiet).await;
    }
}

/// A table as people and programs write it into files: the version is computed, whatever the file says.
pub(super) fn decode(content: &[u8]) -> serde_json::Result<Arc<RoutingTable>> {
    let mut table: RoutingTable = serde_json::from_slice(content)?;
    table.seal();
    Ok(Arc::new(table))
}
