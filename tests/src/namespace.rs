//! A host of its own, in a network namespace, that can vanish without closing its connections.

use std::{net::Ipv4Addr, process::Command};

use anyhow::{Context, Result, bail};

use crate::tools;

/// A network namespace that this machine reaches over a pair of virtual interfaces. It is removed
/// when dropped.
pub struct Namespace {
    name: String,
    /// This machine's end of the pair.
    interface: String,
    /// This machine's address.
    near: Ipv4Addr,
    /// The namespace's address.
    far: Ipv4Addr,
}

impl Namespace {
    /// Creates a namespace. At most one can exist per process.
    ///
    /// # Errors
    /// If this machine does not allow it: it takes Linux, `ip` from iproute2, root, and
    /// CAP_NET_ADMIN.
    pub fn start() -> Result<Self> {
        let pid = std::process::id();
        // A network of four addresses, chosen by process ID so that concurrent processes rarely
        // share one.
        let network = Ipv4Addr::new(10, 203, (pid / 64) as u8, (pid % 64 * 4) as u8).to_bits();
        let namespace = Self {
            name: format!("edge-{pid}"),
            interface: format!("edge{pid}"),
            near: (network + 1).into(),
            far: (network + 2).into(),
        };
        let Self { name, interface, near, far } = &namespace;
        let near = format!("{near}/30");
        let far = format!("{far}/30");
        ip(&["netns", "add", name])?;
        ip(&["link", "add", interface, "type", "veth", "peer", "name", "far", "netns", name])?;
        ip(&["address", "add", &near, "dev", interface])?;
        ip(&["link", "set", interface, "up"])?;
        namespace.ip(&["link", "set", "lo", "up"])?;
        namespace.ip(&["address", "add", &far, "dev", "far"])?;
        namespace.ip(&["link", "set", "far", "up"])?;
        // A permanent neighbour entry: otherwise the kernel would notice that the neighbour does
        // not answer, and report an error. With a router in between, as in production, it would
        // not.
        let hardware = hardware_address(&namespace.ip(&["-oneline", "link", "show", "far"])?)?;
        let far = namespace.far.to_string();
        ip(&["neighbour", "replace", &far, "lladdr", &hardware, "dev", interface, "nud", "permanent"])?;
        Ok(namespace)
    }

    /// The namespace's address.
    pub fn address(&self) -> Ipv4Addr {
        self.far
    }

    /// The words of a command line that run the command after them in the namespace.
    ///
    /// # Errors
    /// If `ip` is missing.
    pub fn command_prefix(&self) -> Result<Vec<String>> {
        let ip = tools::ip()?.display().to_string();
        Ok(vec![ip, "netns".to_owned(), "exec".to_owned(), self.name.clone()])
    }

    /// Makes the namespace drop every packet from and to this machine silently: without a reset, an
    /// ICMP message or a lost carrier. Its programs keep running.
    ///
    /// # Errors
    /// If the route cannot be set.
    pub fn disappear(&self) -> Result<()> {
        // The kernel also drops packets from an address that it has no route to.
        self.ip(&["route", "add", "blackhole", &self.near.to_string()]).map(drop)
    }

    /// Makes the namespace reachable again.
    ///
    /// # Errors
    /// If the route cannot be removed.
    pub fn reappear(&self) -> Result<()> {
        self.ip(&["route", "delete", "blackhole", &self.near.to_string()]).map(drop)
    }

    fn ip(&self, arguments: &[&str]) -> Result<String> {
        ip(&[&["-netns", &self.name], arguments].concat())
    }
}

impl Drop for Namespace {
    fn drop(&mut self) {
        // The interface would disappear with the namespace, but only later. Errors cannot be
        // reported from here.
        _ = ip(&["link", "delete", &self.interface]);
        _ = ip(&["netns", "delete", &self.name]);
    }
}

fn ip(arguments: &[&str]) -> Result<String> {
    let output = Command::new(tools::ip()?).args(arguments).output()?;
    if !output.status.success() {
        bail!("ip {}: {}", arguments.join(" "), String::from_utf8_lossy(&output.stderr).trim());
    }
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

fn hardware_address(link: &str) -> Result<String> {
    let address = link.split_once("link/ether ").and_then(|(_, rest)| rest.split(' ').next());
    address.map(str::to_owned).with_context(|| format!("`ip link` shows no hardware address: {link:?}"))
}
