//! The last known good table, in a file that only this user can read: it holds private keys.

use std::{
    fs::{self, OpenOptions},
    io::{self, Write},
    os::unix::fs::OpenOptionsExt,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use portcullis_routing::{Frame, FrameError, GatewayKey, RoutingTable};

use crate::state::TableState;

/// Why the file cannot be used.
#[derive(Debug, thiserror::Error)]
pub(super) enum CacheError {
    #[error("cannot read {}: {error}", path.display())]
    Read { path: PathBuf, error: io::Error },
    #[error("{} holds no routing table: {error}", path.display())]
    Decode { path: PathBuf, error: FrameError },
    #[error("{} holds no routing table but another frame", path.display())]
    NoSnapshot { path: PathBuf },
    #[error("{} is damaged: its version does not fit its content", path.display())]
    Damaged { path: PathBuf },
    #[error("{} belongs to Gateway {found}, this proxy serves {serving}", path.display())]
    OtherGateway {
        path: PathBuf,
        found: GatewayKey,
        serving: GatewayKey,
    },
}

impl CacheError {
    /// Whether there is no file at all.
    pub(super) fn is_absent(&self) -> bool {
        matches!(self, Self::Read { error, .. } if error.kind() == io::ErrorKind::NotFound)
    }
}

/// The table in the file, if it is whole and that of `serving`.
pub(super) fn load(path: &Path, serving: &GatewayKey) -> Result<Arc<RoutingTable>, CacheError> {
    let content = fs::read(path).map_err(|error| CacheError::Read {
        path: path.to_owned(),
        error,
    })?;
    let frame = Frame::parse(&content).map_err(|error| CacheError::Decode {
        path: path.to_owned(),
        error,
    })?;
    let Frame::Snapshot(table) = frame else {
        return Err(CacheError::NoSnapshot {
            path: path.to_owned(),
        });
    };
    if table.computed_version() != table.version {
        return Err(CacheError::Damaged {
            path: path.to_owned(),
        });
    }
    if table.gateway != *serving {
        return Err(CacheError::OtherGateway {
            path: path.to_owned(),
            found: table.gateway.clone(),
            serving: serving.clone(),
        });
    }
    Ok(table)
}

/// Writes each table that `state` serves to the file, at most one per `pause`. Never ends.
pub(super) async fn keep(path: &Path, state: &TableState, pause: Duration) {
    let mut changes = state.changes();
    // There may be a table already.
    changes.mark_changed();
    loop {
        // The sender is part of `state`.
        _ = changes.changed().await;
        let Some(snapshot) = state.current().clone() else {
            continue;
        };
        let path = path.to_owned();
        // With tens of thousands of rules this takes a while.
        let written = tokio::task::spawn_blocking(move || {
            let written = store(&path, snapshot.compiled.table());
            written.map_err(|error| format!("{}: {error}", path.display()))
        });
        if let Ok(Err(error)) = written.await {
            tracing::error!(%error, "the table cannot be kept for a restart without a controller");
        }
        tokio::time::sleep(pause).await;
    }
}

/// Replaces the file in one step.
fn store(path: &Path, table: &Arc<RoutingTable>) -> io::Result<()> {
    // What is served may be more than what was received: predecessors of what was rejected.
    let mut table = table.as_ref().clone();
    table.seal();
    let line = Frame::Snapshot(Arc::new(table))
        .to_line()
        .map_err(io::Error::other)?;
    let mut beside = path.as_os_str().to_owned();
    beside.push(".new");
    // One that is left of a crash may have other permissions.
    if let Err(error) = fs::remove_file(&beside)
        && error.kind() != io::ErrorKind::NotFound
    {
        return Err(error);
    }
    let mut file = OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(&beside)?;
    file.write_all(&line)?;
    file.sync_all()?;
    fs::rename(beside, path)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;
    use crate::{
        state::{Overrides, fixtures},
        telemetry::{Metrics, MetricsOptions},
    };

    fn told(path: &Path, content: &[u8]) -> String {
        fs::write(path, content).unwrap();
        load(path, &fixtures::gateway()).unwrap_err().to_string()
    }

    #[test]
    fn a_table_comes_back_and_only_its_owner_can_read_it() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("table");
        fs::write(directory.path().join("table.new"), "left of a crash").unwrap();
        assert!(load(&path, &fixtures::gateway()).unwrap_err().is_absent());
        for routes in [3, 1] {
            let table = Arc::new(fixtures::table(1, routes));
            store(&path, &table).unwrap();
            assert_eq!(load(&path, &fixtures::gateway()).unwrap(), table);
        }
        let mode = fs::metadata(&path).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
        assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 1);
    }

    #[test]
    fn what_is_not_the_table_of_this_gateway_is_refused_in_words() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("table");
        let table = Arc::new(fixtures::table(1, 1));
        store(&path, &table).unwrap();
        let line = fs::read_to_string(&path).unwrap();
        let other = load(&path, &GatewayKey::of("infra", "other")).unwrap_err();
        assert!(
            other.to_string().contains("belongs to Gateway infra/edge"),
            "{other}"
        );

        let half = &line.as_bytes()[..line.len() / 2];
        assert!(told(&path, half).contains("holds no routing table: "));
        assert!(told(&path, b"").contains("holds no routing table: "));
        let heartbeat = Frame::HEARTBEAT.to_line().unwrap();
        assert!(told(&path, &heartbeat).contains("another frame"));
        let damaged = line.replace("8000", "8001");
        assert!(told(&path, damaged.as_bytes()).contains("is damaged"));
        assert!(told(&path, damaged.as_bytes()).contains(path.to_str().unwrap()));
    }

    /// What is kept is what was served, not what was received: the route that was rejected is there in its old form.
    #[tokio::test]
    async fn predecessors_of_rejected_resources_are_kept_too() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("table");
        let metrics = Arc::new(Metrics::new(MetricsOptions::default()));
        let state = TableState::new(metrics, Overrides::default());
        let good = fixtures::table(1, 1);
        let broken = fixtures::changed(&good, |table| {
            table.routes.insert(fixtures::route(0), fixtures::broken(0));
        });
        state.apply(Arc::new(good.clone())).unwrap();
        state.apply(broken).unwrap();
        let kept = async {
            while load(&path, &fixtures::gateway()).is_err() {
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
        };
        let keep = async {
            tokio::select! {
                () = keep(&path, &state, Duration::ZERO) => {}
                () = kept => {}
            }
        };
        tokio::time::timeout(Duration::from_mins(1), keep)
            .await
            .unwrap();
        assert_eq!(*load(&path, &fixtures::gateway()).unwrap(), good);
    }
}
