//! The first process of the node's namespaces: it prepares them, starts the programs, reaps orphans, and starts again what
//! ends. When it ends, the kernel ends everything in the node.

use std::{
    collections::BTreeMap,
    fs,
    io::BufRead,
    path::Path,
    process::Stdio,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail, ensure};
use clap::Subcommand;
use rustix::{
    mount::{MountFlags, mount, mount_bind},
    process::{Pid, WaitOptions, wait},
};

use super::{
    allocator,
    components::{self, Component, Need},
    layout,
};
use crate::support::process::POLL;

/// How long a program may wait for what it needs. Machines that build something beside are slow.
const PATIENCE: Duration = Duration::from_mins(3);
/// Pause before a program that has ended is started again.
const RESTART: Duration = Duration::from_millis(500);
/// A program that has run for so long has started well.
const STARTED: Duration = Duration::from_secs(10);
/// A program that has ended so often in a row without having started well is broken.
const MAX_ENDS: u32 = 20;

/// Kernel settings that the kubelet wants for the whole machine. It is shown files that hold them, and the machine stays
/// as it is.
const SYSCTLS: [(&str, &str); 6] = [
    ("vm/overcommit_memory", "1"),
    ("vm/panic_on_oom", "0"),
    ("kernel/panic", "10"),
    ("kernel/panic_on_oops", "1"),
    ("kernel/keys/root_maxkeys", "1000000"),
    ("kernel/keys/root_maxbytes", "25000000"),
];

/// What runs inside of the node. Started by `cargo e2e cluster up`, never by hand.
#[derive(Subcommand)]
pub(crate) enum Inside {
    /// The first process.
    Init,
    /// Gives addresses to Services of type `LoadBalancer`.
    Allocator,
}

impl Inside {
    pub(crate) fn run(&self) -> Result<()> {
        match self {
            Self::Init => init(),
            Self::Allocator => allocator::run(),
        }
    }
}

fn init() -> Result<()> {
    ensure!(
        std::process::id() == 1,
        "this is for the first process of a node; `cargo e2e cluster up` starts it"
    );
    wait_for_network()?;
    mount_private()?;
    set_kernel()?;
    Supervisor::default().run(components::all().into())
}

/// Waits until `up` says that the link is there. If `up` dies before, there will be no node.
fn wait_for_network() -> Result<()> {
    let mut line = String::new();
    std::io::stdin().lock().read_line(&mut line)?;
    ensure!(line == "connected\n", "`up` ended before the network stood");
    Ok(())
}

/// What programs write outside of the run directory goes to memory that vanishes with the node.
fn mount_private() -> Result<()> {
    let state = layout::state();
    for folder in [
        state.as_path(),
        Path::new("/run"),
        Path::new("/var/lib/cni"),
        Path::new("/var/log"),
    ] {
        fs::create_dir_all(folder)?;
        mount("tmpfs", folder, "tmpfs", MountFlags::empty(), c"mode=0755")
            .with_context(|| format!("mount a memory file system on {}", folder.display()))?;
    }
    for (name, value) in SYSCTLS {
        let file = state.join(format!("sysctl-{}", name.replace('/', "-")));
        fs::write(&file, format!("{value}\n"))?;
        let target = Path::new("/proc/sys").join(name);
        mount_bind(&file, &target)
            .with_context(|| format!("mount a file on {}", target.display()))?;
    }
    Ok(())
}

/// Settings of the node's own network namespace.
fn set_kernel() -> Result<()> {
    for name in [
        "net/ipv4/ip_forward",
        "net/ipv6/conf/all/forwarding",
        "net/bridge/bridge-nf-call-iptables",
        "net/bridge/bridge-nf-call-ip6tables",
    ] {
        let path = Path::new("/proc/sys").join(name);
        fs::write(&path, "1").with_context(|| format!("cannot set {}", path.display()))?;
    }
    Ok(())
}

/// The programs that run, by process id.
#[derive(Default)]
struct Supervisor {
    running: BTreeMap<i32, (Component, Instant)>,
    /// Ends in a row that came too soon, by program.
    ends: BTreeMap<&'static str, u32>,
}

impl Supervisor {
    fn run(mut self, components: Vec<Component>) -> Result<()> {
        for component in components {
            if let Some(need) = &component.needs {
                self.wait_for(need)?;
            }
            self.start(component)?;
        }
        loop {
            self.reap(WaitOptions::empty())?;
        }
    }

    fn start(&mut self, component: Component) -> Result<()> {
        let log = fs::OpenOptions::new()
            .create(true)
            .append(true)
            .open(layout::logs().join(format!("{}.log", component.name)))?;
        let child = component
            .command()
            .stdin(Stdio::null())
            .stdout(log.try_clone()?)
            .stderr(log)
            .spawn()
            .with_context(|| format!("cannot start {}", component.name))?;
        self.running
            .insert(child.id().cast_signed(), (component, Instant::now()));
        Ok(())
    }

    fn wait_for(&mut self, need: &Need) -> Result<()> {
        let deadline = Instant::now() + PATIENCE;
        while !need.is_there() {
            ensure!(
                Instant::now() < deadline,
                "{need:?} is not there after {} s",
                PATIENCE.as_secs()
            );
            self.reap(WaitOptions::NOHANG)?;
            pause(POLL);
        }
        Ok(())
    }

    /// Takes note of one process that has ended, an orphan or a program; starts the program again.
    fn reap(&mut self, options: WaitOptions) -> Result<()> {
        let Some((pid, status)) = wait(options)? else {
            return Ok(());
        };
        let Some((component, start)) = self.running.remove(&Pid::as_raw(Some(pid))) else {
            return Ok(());
        };
        let name = component.name;
        println!("{name} ended: {status:?}");
        let ends = self.ends.entry(name).or_default();
        *ends = if start.elapsed() < STARTED {
            *ends + 1
        } else {
            0
        };
        if *ends >= MAX_ENDS {
            bail!("{name} has ended {MAX_ENDS} times in a row");
        }
        pause(RESTART);
        self.start(component)
    }
}

#[expect(
    clippy::disallowed_methods,
    reason = "the node's first process has nothing else to do meanwhile"
)]
fn pause(time: Duration) {
    std::thread::sleep(time);
}
