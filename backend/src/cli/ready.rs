//! `backend ready`.

use std::{
    net::{Ipv4Addr, SocketAddr},
    time::Duration,
};

use anyhow::{anyhow, ensure};

use crate::{config::Config, http_client};

/// How long to wait for the answer.
const TIMEOUT: Duration = Duration::from_secs(3);
/// How much of the answer is read, in bytes. Expected answers are shorter.
const MAX_BYTES: usize = 16 * 1024;

/// Asks the backend at `admin.listen` whether it is ready.
///
/// # Errors
/// If it does not answer, or is not ready.
pub(super) async fn ask(config: &Config) -> anyhow::Result<()> {
    let mut address: SocketAddr = config.admin.listen.parse()?;
    if address.ip().is_unspecified() {
        address.set_ip(Ipv4Addr::LOCALHOST.into());
    }
    let answer = http_client::get(&format!("http://{address}/readyz"), TIMEOUT, MAX_BYTES).await;
    let answer = answer.map_err(|reason| anyhow!("no answer from {address} (`admin.listen`): {reason}"))?;
    ensure!(answer.status == 200, "not ready: {}", String::from_utf8_lossy(&answer.body).trim());
    Ok(())
}
