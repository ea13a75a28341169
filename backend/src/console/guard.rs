//! Stands before every page and every asset: rejects what [`access`](super::access) denies, limits
//! what a request may cost, and makes every answer safe to show in a browser.

use std::{
    sync::{Arc, LazyLock},
    time::Duration,
};

use axum::{
    extract::{Request, State},
    http::{HeaderName, HeaderValue, StatusCode, header},
    middleware::Next,
    response::{IntoResponse, Response},
};
use tokio::time::timeout;

use super::{
    Context,
    access::{Access, Denied, Visitor},
    answer::{Failure, Frame},
};
use crate::telemetry::LogLimit;

/// The largest form that a page sends.
pub(super) const MAX_BODY_BYTES: usize = 16 * 1024;
/// How long an answer may take. Longer than the checks of the page Health.
const PATIENCE: Duration = Duration::from_secs(15);

/// What a browser may do with a page: load the console's own style sheet, script and icon, and send
/// forms back to it.
const CONTENT_SECURITY_POLICY: &str = "default-src 'none'; style-src 'self'; script-src 'self'; img-src 'self'; \
                                       connect-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors \
                                       'none'";

const PROTECTION: [(HeaderName, &str); 6] = [
    (header::CONTENT_SECURITY_POLICY, CONTENT_SECURITY_POLICY),
    (header::CACHE_CONTROL, "no-store"),
    (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
    // Not `no-referrer`: with that, browsers send `origin: null` with the console's own forms.
    (header::REFERRER_POLICY, "same-origin"),
    (HeaderName::from_static("cross-origin-opener-policy"), "same-origin"),
    (HeaderName::from_static("cross-origin-resource-policy"), "same-origin"),
];

/// Makes a browser ask for a name and a token.
const CHALLENGE: &str = r#"Basic realm="truenroll-edge", charset="UTF-8""#;

/// Answers a request, if it may be answered.
pub(super) async fn guard(State(context): State<Arc<Context>>, mut request: Request, next: Next) -> Response {
    let path = request.uri().path().to_owned();
    // The credentials may have changed since the last request.
    let access = Access::of(&context.config().console).map_err(|_| Denied::Unauthenticated);
    let checked = access.and_then(|access| access.check(request.method(), request.uri(), request.headers()));
    let (frame, mut response) = match checked {
        Ok(visitor) => {
            let frame = Frame::new(path, visitor);
            request.extensions_mut().insert(frame.clone());
            (frame, limited(&context, request, next).await.into_response())
        }
        Err(denied) => {
            log(denied);
            (Frame::new(path, Visitor::stranger()), failure(denied).into_response())
        }
    };
    if let Some(failure) = response.extensions_mut().remove::<Failure>() {
        response = failure.shown_in(&frame);
    }
    let status = response.status();
    let headers = response.headers_mut();
    if status == StatusCode::UNAUTHORIZED {
        headers.insert(header::WWW_AUTHENTICATE, HeaderValue::from_static(CHALLENGE));
    }
    for (name, value) in PROTECTION {
        headers.insert(name, HeaderValue::from_static(value));
    }
    response
}

async fn limited(context: &Context, request: Request, next: Next) -> Result<Response, Failure> {
    let busy = || Failure::new(StatusCode::SERVICE_UNAVAILABLE, "The console is busy", "Try again in a moment.");
    let _permit = context.permits.try_acquire().map_err(|_| busy())?;
    timeout(PATIENCE, next.run(request)).await.map_err(|_| busy())
}

fn failure(denied: Denied) -> Failure {
    match denied {
        Denied::WrongHost => Failure::new(
            StatusCode::MISDIRECTED_REQUEST,
            "The console is not known under this name",
            "Add the name to the setting `console.hosts`, or use one that is listed there.",
        ),
        Denied::Unauthenticated => Failure::new(
            StatusCode::UNAUTHORIZED,
            "Sign in to use the console",
            "Use your name, and your token as the password. The setting `console.credentials` lists who may use it.",
        ),
        Denied::CrossSite => Failure::new(
            StatusCode::FORBIDDEN,
            "The console's own pages did not send this",
            "Open the console and try again there. A program must send the header `Sec-Fetch-Site: same-origin`.",
        ),
        Denied::NotAllowed => Failure::new(
            StatusCode::FORBIDDEN,
            "You may look, but change nothing",
            "Ask for the role `operate` in the setting `console.credentials`.",
        ),
    }
}

fn log(denied: Denied) {
    static LIMIT: LazyLock<LogLimit> = LazyLock::new(|| LogLimit::every(Duration::from_secs(10)));
    if let Some(suppressed) = LIMIT.allow() {
        tracing::warn!(reason = ?denied, suppressed, "the console rejected a request");
    }
}
