//! Tells open pages when to show something new, by server-sent events. A page then asks for itself
//! again, so it looks the same as after a reload.

use std::{convert::Infallible, sync::Arc};

use axum::{
    http::StatusCode,
    response::sse::{Event, Sse},
};
use futures_util::stream::{Stream, unfold};

use super::answer::{Asked, Failure};

/// Sends the event `changed` at once, and from then on whenever something has changed.
pub(super) async fn changes(
    Asked { context, .. }: Asked,
) -> Result<Sse<impl Stream<Item = Result<Event, Infallible>>>, Failure> {
    let permit = Arc::clone(&context.live_pages).try_acquire_owned().map_err(|_| {
        let advice = "Reload this page to see changes.";
        Failure::new(StatusCode::SERVICE_UNAVAILABLE, "Too many open pages", advice)
    })?;
    let mut changes = context.changes.subscribe();
    changes.mark_changed();
    Ok(Sse::new(unfold((changes, context, permit), async |(mut changes, context, permit)| {
        context.stop.run_until_cancelled(changes.changed()).await?.ok()?;
        // Browsers ignore an event without data.
        let event = Event::default().event("changed").data("now");
        Some((Ok(event), (changes, context, permit)))
    })))
}
