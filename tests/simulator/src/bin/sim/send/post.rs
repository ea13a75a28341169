//! Sends one request, and describes it and its answer. Neither description contains the token.

use std::{
    fmt,
    time::{SystemTime, UNIX_EPOCH},
};

use anyhow::{Context, Result};
use envelope::SigningKey;
use reqwest::{Client, RequestBuilder, Response, Url, header::CONTENT_TYPE};
use serde_json::Value;
use simulator::{
    send::{Place, Request},
    sender::Answer,
};

/// The webhook that requests are sent to.
pub(super) struct Target {
    /// The webhook's URL without the token, unless the person who sends has put it there.
    pub(super) webhook: Url,
    /// The token that follows the path.
    pub(super) token: Option<String>,
    /// The key that signs the requests.
    pub(super) signing_key: Option<SigningKey>,
}

/// The answer to one request.
pub(super) struct Reply {
    /// What the answer means.
    pub(super) answer: Answer,
    status: u16,
    body: Value,
}

const WRONG_TOKEN: &str = "wrong-token-of-sim-send";
/// The length of the shortest token that a policy allows.
const SHORTEST_TOKEN: usize = 16;
/// The most bytes of an answer's body that are waited for.
const MAX_ANSWER: usize = 64 << 10;
/// The most characters of a body that are shown.
const SHOWN: usize = 1_000;

impl Target {
    /// Sends a request.
    ///
    /// # Errors
    /// If no answer arrives.
    pub(super) async fn post(&self, client: &Client, request: &Request) -> Result<Reply> {
        let token = match request.place {
            Place::Webhook => self.token.as_deref(),
            Place::WrongToken => Some(WRONG_TOKEN),
        };
        let mut url = self.webhook.clone();
        if let Some(token) = token {
            url.set_path(&format!("{}/{token}", self.webhook.path().trim_end_matches('/')));
        }
        let post = client.post(url).header(CONTENT_TYPE, request.media_type);
        let sent = self.sign(post, &request.body).body(request.body.clone()).send().await;
        // The error would show the URL, which contains the token.
        let answer = sent.map_err(reqwest::Error::without_url).with_context(|| self.no_answer())?;
        let status = answer.status().as_u16();
        let body = beginning(answer).await.map_err(reqwest::Error::without_url).with_context(|| self.no_answer())?;
        let body = serde_json::from_slice(&body).unwrap_or_default();
        Ok(Reply { answer: Answer::read(status, &body), status, body })
    }

    fn sign(&self, post: RequestBuilder, body: &str) -> RequestBuilder {
        const ID: &str = "msg_sim-send";
        let Some(key) = &self.signing_key else { return post };
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
        let signature = key.sign(ID, now, body.as_bytes());
        post.header("webhook-id", ID).header("webhook-timestamp", now).header("webhook-signature", signature)
    }

    fn no_answer(&self) -> String {
        format!("no answer from {}", self.origin())
    }

    fn origin(&self) -> String {
        self.webhook.origin().ascii_serialization()
    }

    /// The request as text.
    pub(super) fn describe(&self, request: &Request) -> String {
        let token = match (request.place, &self.token) {
            (Place::Webhook, None) => "",
            (Place::Webhook, Some(_)) => "/<token>",
            (Place::WrongToken, _) => "/<wrong token>",
        };
        let signature = if self.signing_key.is_some() { "\nwebhook-signature: <signature>" } else { "" };
        format!(
            "POST {}{}{token}\ncontent-type: {}{signature}\n\n{}",
            self.origin(),
            without_tokens(self.webhook.path()),
            request.media_type,
            shortened(&request.body)
        )
    }
}

/// Reads an answer's body, or the beginning of one that is longer than any that the edge gives.
async fn beginning(mut answer: Response) -> reqwest::Result<Vec<u8>> {
    let mut body = Vec::new();
    while body.len() < MAX_ANSWER
        && let Some(piece) = answer.chunk().await?
    {
        body.extend_from_slice(&piece);
    }
    Ok(body)
}

/// Replaces each segment of a path that is long enough to be a token.
fn without_tokens(path: &str) -> String {
    let hidden = |segment| if str::len(segment) < SHORTEST_TOKEN { segment } else { "<token>" };
    path.trim_end_matches('/').split('/').map(hidden).collect::<Vec<_>>().join("/")
}

fn shortened(body: &str) -> String {
    match body.char_indices().nth(SHOWN) {
        Some((end, _)) => format!("{}… ({} bytes)", &body[..end], body.len()),
        None if body.is_empty() => "(no body)".to_owned(),
        None => body.to_owned(),
    }
}

impl fmt::Display for Reply {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let text = |name: &str| self.body.get(name).and_then(Value::as_str);
        write!(f, "{}", self.status)?;
        // A rejection has a code, an acknowledgement a word; the status of a rejection is a number.
        if let Some(word) = text("status").or_else(|| text("code")) {
            write!(f, " {word}")?;
        }
        if let Some(pointer) = text("pointer") {
            write!(f, " at {pointer}")?;
        }
        text("eventKey").map_or(Ok(()), |key| write!(f, "\nevent key: {key}"))
    }
}

#[cfg(test)]
mod tests {
    use envelope::{EventName, Feature, Stage};
    use simulator::send::{Kind, Novelty, Subject};

    use super::*;

    #[test]
    fn a_description_never_contains_the_token() {
        let token = "a-secret-token-in-the-path";
        let subject = Subject {
            name: EventName { feature: Feature::Extraction, stage: Stage::Completed },
            case: "a".to_owned(),
            external_id: None,
            occurred_at: "2025-06-22T10:30:00Z".to_owned(),
            novelty: Novelty::New,
        };
        for (webhook, own, expected) in [
            ("http://host/webhooks/truenroll", None, "POST http://host/webhooks/truenroll\n"),
            ("http://host/webhooks/truenroll/", Some(token), "POST http://host/webhooks/truenroll/<token>\n"),
            (&format!("http://host:1/webhooks/truenroll/{token}"), None, "http://host:1/webhooks/truenroll/<token>\n"),
            ("http://user:secret-token@host/w", Some(token), "POST http://host/w/<token>\n"),
        ] {
            let target =
                Target { webhook: Url::parse(webhook).unwrap(), token: own.map(str::to_owned), signing_key: None };
            let description = target.describe(&Kind::Event.requests(&subject)[0]);
            assert!(description.contains(expected) && !description.contains("secret-token"), "{description}");
        }
    }

    #[test]
    fn a_reply_is_described_by_its_status_code_and_event_key() {
        let reply = |status, body: Value| Reply { answer: Answer::read(status, &body), status, body }.to_string();
        for (status, body, expected) in [
            (202, serde_json::json!({ "status": "accepted", "eventKey": "k" }), "202 accepted\nevent key: k"),
            (
                422,
                serde_json::json!({ "status": 422, "code": "invalid_field", "pointer": "/payload/caseId" }),
                "422 invalid_field at /payload/caseId",
            ),
            (502, Value::Null, "502"),
        ] {
            assert_eq!(reply(status, body), expected);
        }
    }

    #[test]
    fn a_long_body_is_shortened() {
        assert_eq!(shortened(""), "(no body)");
        assert_eq!(shortened(&"é".repeat(SHOWN)), "é".repeat(SHOWN));
        assert_eq!(shortened(&"é".repeat(SHOWN + 1)), format!("{}… (2002 bytes)", "é".repeat(SHOWN)));
    }
}
