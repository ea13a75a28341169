//! Network faults: which path fails, how, for which backends, and for how long.

use std::time::Duration;

use anyhow::{Context, Result};
use fastrand::Rng;
use tokio::time::sleep;

use super::history::Explains;
use crate::{proxy::Fault, stack::Network};

/// A network path from a backend to one of its dependencies.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Path {
    /// To Redis.
    Redis,
    /// To the Partner API.
    PartnerApi,
    /// To the partner's application.
    Sink,
}

/// The longest delay of a piece of data in milliseconds. A whole call stays below the backends'
/// timeouts.
const LONGEST_DELAY: u64 = 200;

impl Path {
    pub(super) fn as_str(self) -> &'static str {
        match self {
            Self::Redis => "Redis",
            Self::PartnerApi => "Partner API",
            Self::Sink => "sink",
        }
    }

    /// Whether this fault explains that an event is delivered again.
    pub(super) fn explains(self, fault: Fault) -> Explains {
        match (self, fault) {
            (Self::PartnerApi, _) | (Self::Sink, Fault::Delayed(_)) => Explains::Nothing,
            (Self::Redis | Self::Sink, _) => Explains::AnotherDelivery,
        }
    }

    /// Breaks this path for 0.3 to 3 seconds, for one backend or for all.
    pub(super) async fn fail(self, networks: &[Network], rng: &mut Rng) -> Result<Fault> {
        let fault = match rng.u8(..6) {
            0 => Fault::Stalled,
            1 => Fault::AnswersCut,
            2 => Fault::RequestsCut,
            3 => Fault::Delayed(Duration::from_millis(rng.u64(20..=LONGEST_DELAY))),
            4 => Fault::Reset,
            _ => Fault::Rejected,
        };
        let all = networks.iter().map(|network| match self {
            Self::Redis => network.redis.as_ref(),
            Self::PartnerApi => Some(&network.partner_api),
            Self::Sink => Some(&network.sink),
        });
        let all: Vec<_> =
            all.collect::<Option<_>>().context("there is no proxy between the backends and several Redis servers")?;
        let only = (rng.u8(..3) > 0).then(|| rng.usize(..all.len()));
        let hit = || all.iter().enumerate().filter(|(number, _)| only.is_none_or(|only| only == *number));
        hit().for_each(|(_, proxy)| proxy.fail(fault));
        sleep(Duration::from_secs_f64(0.3 + rng.f64() * 2.7)).await;
        hit().for_each(|(_, proxy)| proxy.heal());
        Ok(fault)
    }
}
