//! How the network fails: which path, in which way, for which backends and for how long.

use std::time::Duration;

use anyhow::{Context, Result};
use fastrand::Rng;
use tokio::time::sleep;

use crate::{proxy::Fault, stack::Network};

/// From a backend to what it depends on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Path {
    /// To Redis.
    Redis,
    /// To the Partner API.
    PartnerApi,
    /// To the partner's application.
    Sink,
}

/// The longest that each piece of data is delayed. A call with all of its pieces stays below the backends' timeouts.
const LONGEST_DELAY: u64 = 200;

impl Path {
    pub(super) fn as_str(self) -> &'static str {
        match self {
            Self::Redis => "Redis",
            Self::PartnerApi => "Partner API",
            Self::Sink => "sink",
        }
    }

    /// Whether an event may be delivered again because this path failed in that way: the application's answer did not
    /// arrive, or the backend lost its lease, or could not tell Redis that the event is completed.
    pub(super) fn explains_another_delivery(self, fault: Fault) -> bool {
        match self {
            Self::Redis => true,
            Self::PartnerApi => false,
            Self::Sink => !matches!(fault, Fault::Delayed(_)),
        }
    }

    /// Breaks this path of one backend, or of all, for 0.3 to 3 seconds.
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
            all.collect::<Option<_>>().context("no proxy stands between the backends and several servers")?;
        let only = (rng.u8(..3) > 0).then(|| rng.usize(..all.len()));
        let hit = || all.iter().enumerate().filter(|(number, _)| only.is_none_or(|only| only == *number));
        hit().for_each(|(_, proxy)| proxy.fail(fault));
        sleep(Duration::from_secs_f64(0.3 + rng.f64() * 2.7)).await;
        hit().for_each(|(_, proxy)| proxy.heal());
        Ok(fault)
    }
}
