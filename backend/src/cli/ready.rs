//! `backend ready`.

use std::{
    net::{Ipv4Addr, SocketAddr},
    time::Duration,
};

use anyhow::Context;

use crate::{config::Config, http_client};

/// How long to wait for the answer.
const TIMEOUT: Duration = Duration::from_secs(3);

/// Asks the backend at `admin.listen` whether it is ready.
///
/// # Errors
/// If it does not answer, or is not ready.
pub(super) async fn ask(config: &Config) -> anyhow::Result<()> {
    let mut address: SocketAddr = config.admin.listen.parse()?;
    if address.ip().is_unspecified() {
        address.set_ip(Ipv4Addr::LOCALHOST.into());
    }
    let client = http_client::builder(TIMEOUT).no_proxy().build()?;
    let request = client.get(format!("http://{address}/readyz")).send();
    let answer = request.await.with_context(|| format!("no answer from {address} (`admin.listen`)"))?;
    anyhow::ensure!(answer.status().is_success(), "not ready: {}", answer.text().await?.trim());
    Ok(())
}
