//! The paths from one backend to what it depends on, each through a proxy that can break it.

use std::net::SocketAddr;

use anyhow::{Context, Result};

use super::Options;
use crate::proxy::Proxy;

/// The proxies of one backend. No other backend uses them, so that one can be cut off while the others are not.
pub struct Network {
    /// To Redis, if there is one server. Sentinels and the servers of a cluster tell backends their own addresses, which
    /// would lead past a proxy.
    pub redis: Option<Proxy>,
    /// To the Partner API.
    pub partner_api: Proxy,
    /// To the partner's application.
    pub sink: Proxy,
}

impl Network {
    pub(super) fn start(redis: Option<SocketAddr>, options: &Options) -> Result<Self> {
        let simulator = options.simulator.strip_prefix("http://").and_then(|address| address.parse().ok());
        let simulator = simulator.context("the simulator's address is not `http://ADDRESS:PORT`")?;
        Ok(Self {
            redis: redis.map(Proxy::start).transpose()?,
            partner_api: Proxy::start(simulator)?,
            sink: Proxy::start(simulator)?,
        })
    }

    /// What the backend has to be told.
    pub(super) fn settings(&self) -> Vec<(&'static str, String)> {
        let mut settings = vec![
            ("BACKEND__PARTNER_API__BASE_URL", format!("http://{}/partner/v1", self.partner_api.address())),
            ("BACKEND__SINK__URL", format!("http://{}/outcomes", self.sink.address())),
        ];
        settings
            .extend(self.redis.as_ref().map(|redis| ("BACKEND__REDIS__URL", format!("redis://{}", redis.address()))));
        settings
    }
}
