//! Tells open pages when to show something new, by server-sent events. A page then asks for itself
//! again, so it looks the same as after a reload.

use std::{
    convert::Infallible,
    pin::Pin,
    sync::Arc,
    task::{Context as TaskContext, Poll},
};

use axum::{
    body::Body,
    extract::State,
    http::{StatusCode, header},
    response::{IntoResponse, Response},
};
use bytes::Bytes;
use http_body::Frame;
use tokio::sync::{OwnedSemaphorePermit, mpsc};

use super::{Context, answer::Failure};

/// The body of a stream of events.
struct Events {
    lines: mpsc::Receiver<Bytes>,
    _permit: OwnedSemaphorePermit,
}

/// Sends the event `changed` at once, and from then on whenever something has changed.
pub(super) async fn changes(State(context): State<Arc<Context>>) -> Result<Response, Failure> {
    let permit = Arc::clone(&context.live_pages).try_acquire_owned().map_err(|_| {
        let advice = "Reload this page to see changes.";
        Failure::new(StatusCode::SERVICE_UNAVAILABLE, "Too many open pages", advice)
    })?;
    let mut changes = context.changes.subscribe();
    let stop = context.stop.clone();
    let (sender, lines) = mpsc::channel(1);
    context.tasks.spawn(async move {
        let next = async {
            while sender.send(Bytes::from_static(b"event: changed\ndata:\n\n")).await.is_ok() {
                if changes.changed().await.is_err() {
                    break;
                }
            }
        };
        tokio::select! {
            () = stop.cancelled() => {}
            () = sender.closed() => {}
            () = next => {}
        }
    });
    let body = Body::new(Events { lines, _permit: permit });
    Ok(([(header::CONTENT_TYPE, "text/event-stream")], body).into_response())
}

impl http_body::Body for Events {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut TaskContext<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        self.lines.poll_recv(context).map(|line| line.map(|line| Ok(Frame::data(line))))
    }
}
