//! Where decisions are read from: the logs of the proxies of egress Gateways, or files.

use std::{
    cell::RefCell,
    collections::BTreeSet,
    fs::File,
    io::{BufRead, BufReader},
    path::Path,
};

use anyhow::{Context, bail};
use futures::{AsyncBufReadExt, StreamExt, stream};
use jiff::{SignedDuration, Timestamp};
use portcullis_controller::{
    ObjectKey,
    provision::{CONTAINER, GATEWAY_NAME, label_value},
};

use super::{
    gateways::gateways,
    lines::Lines,
    record::{Line, Record},
};
use crate::{
    args::DecisionArgs,
    cluster::{Cluster, Kind, Scope},
};

/// Logs that are read at once.
const AT_ONCE: usize = 8;
/// How far back the logs of proxies are read unless it is said.
const SINCE: SignedDuration = SignedDuration::from_hours(1);

/// What some programs write before the first line of a text.
const BYTE_ORDER_MARK: &[u8] = "\u{feff}".as_bytes();

/// What was read beside the decisions.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Read {
    /// Decisions, also those that nobody asked for.
    pub(super) decisions: u64,
    /// Lines that no proxy writes.
    pub(super) unread: u64,
    /// What could not be read.
    pub(super) notes: Vec<String>,
}

/// Hands on lines and counts them.
struct Sink<F> {
    oldest: Option<Timestamp>,
    /// Whether any line was one that a proxy writes.
    is_log: bool,
    read: Read,
    each: F,
}

impl<F: FnMut(Record)> Sink<F> {
    fn line(&mut self, text: Option<&str>) {
        let line = text.map_or(Line::Unread, Line::read);
        self.is_log |= line != Line::Unread;
        match line {
            Line::Other => {}
            Line::Unread => self.read.unread += 1,
            Line::Decision(record) if self.oldest.is_some_and(|oldest| record.time < oldest) => {}
            Line::Decision(record) => {
                self.read.decisions += 1;
                (self.each)(*record);
            }
        }
    }
}

/// Reads decisions, in no order.
pub(super) fn read(args: &DecisionArgs, each: impl FnMut(Record)) -> anyhow::Result<Read> {
    let now = Timestamp::now();
    let since = match args.since {
        None if args.log.is_empty() => Some(SINCE),
        since => since,
    };
    let oldest = since.map(|since| now.checked_sub(since));
    let mut sink = Sink {
        oldest: oldest.transpose().context("--since is too long")?,
        is_log: false,
        read: Read::default(),
        each,
    };
    if args.log.is_empty() {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()?;
        let since = since.map(|since| since.as_secs());
        return runtime.block_on(ask(args, since, sink));
    }
    let mut known = BTreeSet::new();
    for path in &args.log {
        // Its decisions would count twice.
        if !known.insert(path.canonicalize().unwrap_or_else(|_| path.clone())) {
            bail!(
                "{} is named twice: leave one of the two out",
                path.display()
            );
        }
    }
    for path in &args.log {
        read_file(path, &mut sink).with_context(|| format!("cannot read {}", path.display()))?;
    }
    // That nothing was refused would be no answer to what is another file.
    if !sink.is_log && sink.read.unread > 0 {
        bail!(
            "no line of what --log names is one that a proxy writes: name a file with the standard output of a proxy, as `kubectl logs` \
             prints it without --prefix and --timestamps"
        );
    }
    Ok(sink.read)
}

fn read_file(path: &Path, sink: &mut Sink<impl FnMut(Record)>) -> std::io::Result<()> {
    let mut file: Box<dyn BufRead> = if path.as_os_str() == "-" {
        Box::new(std::io::stdin().lock())
    } else {
        Box::new(BufReader::new(File::open(path)?))
    };
    if file.fill_buf()?.starts_with(BYTE_ORDER_MARK) {
        file.consume(BYTE_ORDER_MARK.len());
    }
    let mut lines = Lines::default();
    loop {
        let piece = file.fill_buf()?;
        if piece.is_empty() {
            break;
        }
        lines.feed(piece, &mut |line| sink.line(line));
        let length = piece.len();
        file.consume(length);
    }
    lines.finish(&mut |line| sink.line(line));
    Ok(())
}

/// A log that one pod is asked for.
type Pod = ObjectKey;

async fn ask(
    args: &DecisionArgs,
    since: Option<i64>,
    sink: Sink<impl FnMut(Record)>,
) -> anyhow::Result<Read> {
    let cluster = Cluster::new(&args.cluster).await?;
    let pods = pods(&cluster, args).await?;
    let sink = RefCell::new(sink);
    let (cluster, shared) = (&cluster, &sink);
    let read = stream::iter(&pods)
        .map(|pod| async move { (pod, read_pod(cluster, pod, since, shared).await) })
        .buffer_unordered(AT_ONCE)
        .collect::<Vec<_>>()
        .await;
    let mut read_any = false;
    let mut refused = BTreeSet::new();
    for (pod, outcome) in read {
        match outcome {
            Ok(()) => read_any = true,
            Err(why) => {
                refused.insert(format!("the log of Pod {pod} is not read: {why}"));
            }
        }
    }
    let mut read = sink.into_inner().read;
    read.notes = refused.into_iter().collect();
    match read.notes.first() {
        Some(note) if !read_any => bail!(
            "{note}. Ask for a role with `get` of pods/log there, or name files with --log: \
             `kubectl logs POD | portcullis egress denied --log -`"
        ),
        _ => Ok(read),
    }
}

/// The pods whose logs are read, at least one.
async fn pods(cluster: &Cluster, args: &DecisionArgs) -> anyhow::Result<Vec<Pod>> {
    let gateways = match &args.gateway {
        Some((namespace, name)) => vec![ObjectKey::new(&**namespace, &**name)],
        None => gateways(cluster).await?,
    };
    let mut pods = Vec::new();
    for ObjectKey { namespace, name } in &gateways {
        let label = format!("{GATEWAY_NAME}={}", label_value(name));
        let scope = Scope::Namespace(namespace.clone());
        let found = cluster.labelled(&Kind::POD, &scope, &label).await;
        let found = found.map_err(|refusal| refusal.fatal(&Kind::POD))?;
        pods.extend(found.iter().map(ObjectKey::of));
    }
    if pods.is_empty() {
        let names: Vec<_> = gateways.iter().map(ToString::to_string).collect();
        bail!(
            "Gateway {} has no proxy that could be asked: `portcullis status gateways -A` says what there is, --gateway chooses one, \
             --log reads files",
            names.join(" and ")
        );
    }
    Ok(pods)
}

async fn read_pod(
    cluster: &Cluster,
    pod: &Pod,
    since: Option<i64>,
    sink: &RefCell<Sink<impl FnMut(Record)>>,
) -> anyhow::Result<()> {
    let log = cluster.log(pod, CONTAINER, since).await?;
    let mut log = std::pin::pin!(log);
    let mut lines = Lines::default();
    loop {
        let piece = log.fill_buf().await?;
        if piece.is_empty() {
            break;
        }
        lines.feed(piece, &mut |line| sink.borrow_mut().line(line));
        let length = piece.len();
        log.consume_unpin(length);
    }
    lines.finish(&mut |line| sink.borrow_mut().line(line));
    Ok(())
}
