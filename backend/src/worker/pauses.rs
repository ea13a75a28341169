//! Learns which features are paused, and confirms it once no new attempt of them can begin.

use std::{sync::Arc, time::Duration};

use envelope::Feature;
use tokio::time::sleep;

use super::Work;
use crate::{
    inbox::{Inbox, InboxError, Paused},
    telemetry::FeatureLabels,
};

/// How often it is looked whether something else is paused now. Whoever pauses a feature waits about that long.
const INTERVAL: Duration = Duration::from_millis(200);

/// Looks again and again, for ever.
pub(super) async fn watch(inbox: Inbox, work: Arc<Work>, member: String) {
    loop {
        sleep(INTERVAL.mul_f64(0.75 + fastrand::f64() / 2.0)).await;
        let is_known = inbox.paused_version().await.map(|version| work.paused.borrow().version == version);
        // An error is logged where the partitions are seen to, by the same Redis.
        if let Ok(false) = is_known {
            _ = learn(&inbox, &work, &member).await;
        }
    }
}

/// Reads what is paused, keeps to it from now on, and confirms that.
pub(super) async fn learn(inbox: &Inbox, work: &Work, member: &str) -> Result<(), InboxError> {
    // One at a time: an older answer must not come after a newer one.
    let _learning = work.learning.lock().await;
    let paused = inbox.paused().await?;
    let version = paused.version;
    keep_to(work, paused);
    inbox.confirm_paused(member, version, work.settings.lease).await
}

fn keep_to(work: &Work, paused: Paused) {
    for feature in Feature::ALL {
        let gauge = work.metrics.feature_paused.get_or_create(&FeatureLabels { feature: feature.as_str() });
        gauge.set(paused.features.contains(&feature).into());
    }
    work.paused.send_if_modified(|known| {
        let is_new = *known != paused;
        *known = paused;
        is_new
    });
}
