//! The style sheet, the script and the icon. They are compiled in.

use axum::{
    extract::Path,
    http::header,
    response::{IntoResponse, Response},
};

use super::answer;

/// Returns an asset.
pub(super) async fn asset(Path(name): Path<String>) -> Response {
    let (media_type, text) = match name.as_str() {
        "console.css" => ("text/css; charset=utf-8", include_str!("assets/console.css")),
        "console.js" => ("text/javascript; charset=utf-8", include_str!("assets/console.js")),
        "icon.svg" => ("image/svg+xml", include_str!("assets/icon.svg")),
        _ => return answer::not_found().await.into_response(),
    };
    ([(header::CONTENT_TYPE, media_type)], text).into_response()
}
