//! The host's address for containers.

use std::net::Ipv4Addr;

use anyhow::{Context, Result};

use super::{base_images::DEBIAN_IMAGE, docker::Docker};

/// Returns the gateway of the containers in the engine's default network. `docker network inspect`
/// does not know it until the engine has been restarted once.
///
/// # Errors
/// If a container has no gateway.
pub(super) async fn of_containers(docker: &Docker) -> Result<Ipv4Addr> {
    let routes = docker.run(&["run", "--rm", DEBIAN_IMAGE, "cat", "/proc/net/route"]).await?;
    of_default_route(&routes).context("the engine's network `bridge` has no gateway")
}

/// Finds the default route in a table of the kernel. It prints addresses as numbers of the
/// machine's byte order.
fn of_default_route(routes: &str) -> Option<Ipv4Addr> {
    let mut gateways = routes.lines().filter_map(|route| {
        let fields: Vec<_> = route.split_whitespace().collect();
        let is_default = fields.get(1).is_some_and(|destination| *destination == "00000000");
        if is_default { u32::from_str_radix(fields.get(2)?, 16).ok() } else { None }
    });
    Some(gateways.next()?.to_ne_bytes().into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_gateway_of_the_default_route_is_found() {
        let gateway = u32::from_ne_bytes([172, 17, 0, 1]);
        let routes = format!(
            "Iface\tDestination\tGateway \tFlags\tRefCnt\tUse\tMetric\tMask\n\
             eth0\t000011AC\t00000000\t0001\t0\t0\t0\t0000FFFF\n\
             eth0\t00000000\t{gateway:08X}\t0003\t0\t0\t0\t00000000\n"
        );
        assert_eq!(of_default_route(&routes), Some(Ipv4Addr::new(172, 17, 0, 1)));
        assert_eq!(of_default_route("Iface\tDestination\tGateway\n"), None);
    }
}
