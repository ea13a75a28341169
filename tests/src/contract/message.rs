//! Requests and answers as text: a first line (method and path, or the status), the headers of the
//! contract, an empty line, and the body.

use anyhow::{Context, Result};
use axum::{
    body::Bytes,
    http::{HeaderMap, Method, StatusCode},
};
use envelope::headers::RESERVED_PREFIX;
use reqwest::Client;

/// The headers besides `x-edge-*` that the contract is about.
const HEADERS: [&str; 3] = ["authorization", "content-type", "retry-after"];

/// Writes a message. Of its headers, only those of the contract are written, sorted by name.
pub fn write(first_line: &str, headers: &HeaderMap, body: &[u8]) -> String {
    let is_of_contract = |name: &str| name.starts_with(RESERVED_PREFIX) || HEADERS.contains(&name);
    let kept = headers.iter().filter(|(name, _)| is_of_contract(name.as_str()));
    let mut lines: Vec<_> =
        kept.map(|(name, value)| format!("{name}: {}", String::from_utf8_lossy(value.as_bytes()))).collect();
    lines.sort();
    lines.insert(0, first_line.to_owned());
    format!("{}\n\n{}", lines.join("\n"), String::from_utf8_lossy(body)).trim_end().to_owned()
}

/// Sends a request that was written as a message, and returns the answer as a message.
///
/// # Errors
/// If the message is not a request, or there is no answer.
pub async fn send(client: &Client, base: &str, message: &str) -> Result<String> {
    let (status, headers, body) = exchange(client, base, message).await?;
    Ok(write(status.as_str(), &headers, &body))
}

/// Sends a request that was written as a message, and returns the whole answer.
pub(super) async fn exchange(client: &Client, base: &str, message: &str) -> Result<(StatusCode, HeaderMap, Bytes)> {
    let (head, body) = message.split_once("\n\n").unwrap_or((message, ""));
    let mut lines = head.lines();
    let (method, path) = lines.next().and_then(|line| line.split_once(' ')).context("the message is not a request")?;
    let mut request = client.request(Method::from_bytes(method.as_bytes())?, format!("{base}{path}"));
    for line in lines {
        let (name, value) = line.split_once(": ").with_context(|| format!("`{line}` is not a header"))?;
        request = request.header(name, value);
    }
    let answer = request.body(body.to_owned()).send().await?;
    Ok((answer.status(), answer.headers().clone(), answer.bytes().await?))
}
