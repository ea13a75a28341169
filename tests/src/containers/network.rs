//! Faults of the network of one container. Packets are dropped, as by a cable that is cut: nothing
//! is refused or reset, and neither side is told.
//!
//! The rules are set by `iptables` in the container's own network namespace. It runs in another
//! container that shares the namespace, so it takes no rights on the host.

use std::net::SocketAddr;

use anyhow::Result;

use super::{
    container::Container,
    docker::{BUILD, Docker},
    project::Project,
};

/// The tool that breaks the networks of a project's containers.
#[derive(Debug)]
pub struct Network {
    docker: Docker,
    project: String,
    image: String,
}

impl Network {
    /// Builds the image that contains `iptables`. It is removed with the project.
    ///
    /// # Errors
    /// If it cannot be built.
    pub async fn prepare(project: &Project) -> Result<Self> {
        let docker = project.docker().clone();
        let image = format!("{}_network", project.name);
        let context = project.folder.join("tests/containers/network").display().to_string();
        let base = format!("BASE={}", super::base_images::DEBIAN_IMAGE);
        docker.run_within(BUILD, &["build", "--tag", &image, "--build-arg", &base, &context]).await?;
        Ok(Self { docker, project: project.name.clone(), image })
    }

    /// Drops the packets between a container and one address.
    ///
    /// # Errors
    /// If the rules cannot be set.
    pub async fn cut_off(&self, container: &Container, from: SocketAddr) -> Result<()> {
        let (host, port) = (from.ip(), from.port());
        self.run(
            container,
            &format!(
                "iptables -A OUTPUT -p tcp -d {host} --dport {port} -j DROP
                 iptables -A INPUT -p tcp -s {host} --sport {port} -j DROP"
            ),
        )
        .await
        .map(drop)
    }

    /// Drops all packets from and to a container, as if its host had vanished.
    ///
    /// # Errors
    /// If the rules cannot be set.
    pub async fn isolate(&self, container: &Container) -> Result<()> {
        self.run(container, "iptables -A OUTPUT ! -o lo -j DROP\niptables -A INPUT ! -i lo -j DROP").await.map(drop)
    }

    /// Lets all packets of a container pass again, and returns how many were dropped. What TCP has
    /// kept is sent again.
    ///
    /// # Errors
    /// If the rules cannot be removed.
    pub async fn heal(&self, container: &Container) -> Result<u64> {
        let list = "iptables -nvxL OUTPUT\niptables -nvxL INPUT";
        let listing = self.run(container, &format!("{list}\niptables -F OUTPUT\niptables -F INPUT")).await?;
        Ok(dropped(&listing))
    }

    /// Takes a container out of one of the project's networks. It keeps its other networks.
    ///
    /// # Errors
    /// If it is not in that network.
    pub async fn disconnect(&self, container: &Container, network: &str) -> Result<()> {
        self.docker.run(&["network", "disconnect", &self.name(network), &container.id]).await.map(drop)
    }

    /// Brings a container of a service back into one of the project's networks.
    ///
    /// # Errors
    /// If it is in that network already.
    pub async fn connect(&self, container: &Container, service: &str, network: &str) -> Result<()> {
        // Compose gives each container its service's name as an alias.
        let network = self.name(network);
        self.docker.run(&["network", "connect", "--alias", service, &network, &container.id]).await.map(drop)
    }

    fn name(&self, network: &str) -> String {
        format!("{}_{network}", self.project)
    }

    async fn run(&self, container: &Container, script: &str) -> Result<String> {
        let namespace = format!("--network=container:{}", container.id);
        let command = ["run", "--rm", &namespace, "--cap-add=NET_ADMIN", &self.image, "sh", "-euc", script];
        self.docker.run(&command).await
    }
}

/// The number of packets that the listed rules have dropped.
fn dropped(listing: &str) -> u64 {
    let packets = |line: &str| {
        let mut words = line.split_whitespace();
        let packets = words.next()?.parse::<u64>().ok()?;
        (words.nth(1)? == "DROP").then_some(packets)
    };
    listing.lines().filter_map(packets).sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dropped_packets_are_counted() {
        let listing = "\
Chain OUTPUT (policy ACCEPT 140 packets, 9000 bytes)
    pkts      bytes target     prot opt in     out     source               destination
      12     1480 DROP       tcp  --  *      *       0.0.0.0/0            172.17.0.1           tcp dpt:8090
       7      420 ACCEPT     all  --  *      *       0.0.0.0/0            0.0.0.0/0
Chain INPUT (policy ACCEPT 0 packets, 0 bytes)
    pkts      bytes target     prot opt in     out     source               destination
       3      156 DROP       tcp  --  *      *       172.17.0.1           0.0.0.0/0            tcp spt:8090
";
        assert_eq!(dropped(listing), 15);
        assert_eq!(dropped(""), 0);
    }
}
