//! A host of its own, by way of a network namespace: it can disappear without a word to those who talk to it.

use std::{net::Ipv4Addr, process::Command};

use anyhow::{Context, Result, bail};

use crate::tools;

/// A network namespace that this machine reaches over a pair of virtual interfaces. It is removed when it is dropped.
pub struct Namespace {
    name: String,
    /// This machine's end of the pair.
    interface: String,
    /// The addresses of this machine and of the namespace.
    near: Ipv4Addr,
    far: Ipv4Addr,
}

impl Namespace {
    /// Makes a namespace. At most one per process may exist at a time.
    ///
    /// # Errors
    /// If this machine does not let us: it takes Linux, `ip` from iproute2, root, and the right to administrate networks.
    pub fn start() -> Result<Self> {
        let pid = std::process::id();
        // A network of four addresses that other processes of this machine hardly use at the same time.
        let network = Ipv4Addr::new(10, 203, (pid / 64) as u8, (pid % 64 * 4) as u8).to_bits();
        let namespace = Self {
            name: format!("edge-{pid}"),
            interface: format!("edge{pid}"),
            near: (network + 1).into(),
            far: (network + 2).into(),
        };
        let Self { name, interface, near, far } = &namespace;
        let (near, far) = (format!("{near}/30"), format!("{far}/30"));
        ip(&["netns", "add", name])?;
        ip(&["link", "add", interface, "type", "veth", "peer", "name", "far", "netns", name])?;
        ip(&["address", "add", &near, "dev", interface])?;
        ip(&["link", "set", interface, "up"])?;
        namespace.ip(&["link", "set", "lo", "up"])?;
        namespace.ip(&["address", "add", &far, "dev", "far"])?;
        namespace.ip(&["link", "set", "far", "up"])?;
        // Both ends keep each other's hardware address: otherwise the neighbour that no longer answers would be noticed
        // first. A router in between would not tell either.
        let hardware = hardware_address(&namespace.ip(&["-oneline", "link", "show", "far"])?)?;
        let far = namespace.far.to_string();
        ip(&["neighbour", "replace", &far, "lladdr", &hardware, "dev", interface, "nud", "permanent"])?;
        Ok(namespace)
    }

    /// The namespace's address.
    pub fn address(&self) -> Ipv4Addr {
        self.far
    }

    /// A command that runs a program in the namespace.
    ///
    /// # Errors
    /// If `ip` is missing.
    pub fn command(&self, program: &std::path::Path) -> Result<Command> {
        let mut command = Command::new(tools::ip()?);
        command.args(["netns", "exec", &self.name]).arg(program);
        Ok(command)
    }

    /// From now on the namespace drops every packet that it gets from this machine or would send to it, and says nothing:
    /// no reset, no ICMP, no lost carrier. Its programs run on.
    ///
    /// # Errors
    /// If the route cannot be set.
    pub fn disappear(&self) -> Result<()> {
        // The kernel also drops what comes from an address that it has no way back to.
        self.ip(&["route", "add", "blackhole", &self.near.to_string()]).map(drop)
    }

    /// The namespace is reachable again.
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
        // Its interface goes with the namespace, at once only if it is removed by itself. There is nobody to tell an error.
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
    address.map(str::to_owned).with_context(|| format!("no hardware address in {link:?}"))
}
