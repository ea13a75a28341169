//! What several checks share, found out once.

use std::time::Duration;

use tokio::sync::OnceCell;

use super::Finding;
use crate::{
    config::Config,
    inbox::{Examination, InboxError},
    partner_api::{Listed, PartnerApi},
    sink::Sink,
};

/// What is examined, and what was found out about it so far.
pub(super) struct Examined {
    pub(super) config: Config,
    /// The client of the Partner API, or why there is none.
    pub(super) partner_api: Result<PartnerApi, String>,
    /// The sink, or why there is none.
    pub(super) sink: Result<Sink, String>,
    redis: OnceCell<Result<Examination, InboxError>>,
    first_case: OnceCell<Listed>,
}

/// How long Redis may take for one answer. Shorter than the time limit of a check, so that an error
/// says which answer is missing.
const REDIS_PATIENCE: Duration = Duration::from_secs(3);

impl Examined {
    pub(super) fn new(config: Config) -> Self {
        let partner_api = PartnerApi::new(&config.partner_api).map_err(|error| error.to_string());
        let sink = Sink::new(&config.sink).map_err(|error| error.to_string());
        Self { config, partner_api, sink, redis: OnceCell::new(), first_case: OnceCell::new() }
    }

    /// Returns Redis, to be examined.
    ///
    /// # Errors
    /// If it cannot be reached.
    pub(super) async fn redis(&self) -> Result<&Examination, InboxError> {
        let begin = || Examination::begin(&self.config, REDIS_PATIENCE);
        self.redis.get_or_init(begin).await.as_ref().map_err(Clone::clone)
    }

    /// Like [`Self::redis`], for a check other than the one that reports this error.
    ///
    /// # Errors
    /// Returns the finding of such a check.
    pub(super) async fn reached_redis(&self) -> Result<&Examination, Finding> {
        self.redis().await.map_err(|_| Finding::not_checked("Redis cannot be reached", "see `redis-reachable`"))
    }

    /// Returns the answer of the Partner API to a call for the first case. `None` if there is no
    /// client.
    pub(super) async fn first_case(&self) -> Option<&Listed> {
        let api = self.partner_api.as_ref().ok()?;
        Some(self.first_case.get_or_init(|| api.list(1, 0)).await)
    }
}
