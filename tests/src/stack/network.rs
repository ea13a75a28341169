//! The connections from one backend to its dependencies, each through a proxy that can break it.

use std::net::SocketAddr;

use anyhow::{Context, Result};

use super::Options;
use crate::{backend_settings::BackendSettings, proxy::Proxy};

/// The proxies of one backend. Each backend has its own, so that one backend can be cut off alone.
pub struct Network {
    /// The proxy to Redis; `None` if there are several servers. Sentinels and cluster servers tell
    /// backends their own addresses, so a proxy would be bypassed.
    pub redis: Option<Proxy>,
    /// The proxy to the Partner API.
    pub partner_api: Proxy,
    /// The proxy to the sink.
    pub sink: Proxy,
}

impl Network {
    pub(super) fn start(redis: Option<SocketAddr>, options: &Options) -> Result<Self> {
        let simulator = options.simulator.strip_prefix("http://").and_then(|address| address.parse().ok());
        let simulator = simulator.context("the simulator's URL is not of the form `http://ADDRESS:PORT`")?;
        Ok(Self {
            redis: redis.map(Proxy::start).transpose()?,
            partner_api: Proxy::start(simulator)?,
            sink: Proxy::start(simulator)?,
        })
    }

    /// The settings that make a backend use the proxies.
    pub(super) fn settings(&self) -> BackendSettings {
        let partner_api = format!("http://{}/partner/v1", self.partner_api.address());
        let sink = format!("http://{}/outcomes", self.sink.address());
        let settings = BackendSettings::default().with("partner_api.base_url", partner_api).with("sink.url", sink);
        match &self.redis {
            Some(redis) => settings.with("redis.url", format!("redis://{}", redis.address())),
            None => settings,
        }
    }
}
