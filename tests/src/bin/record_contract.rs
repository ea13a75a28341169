//! Records the contract between this version's filter and backend, for the tests of the next
//! version: `cargo run --package harness --bin record-contract > tests/contract/VERSION.txt`.

#![expect(clippy::print_stdout, reason = "this program writes a recording")]

use anyhow::Result;
use envelope::{Feature, Stage};
use harness::{
    backend_settings::{API_KEY, PROOF, SINK_SECRET},
    contract::{Exchange, Upstream, listener, message, serve_filter},
    simulator::{Simulator, sender},
    stack::{Options, Stack},
};
use serde_json::{Value, json};

const TOKEN: &str = "a-token-for-the-recording";
const EVENT: &str = r#"{"eventName":"case.extraction.completed","payload":{"caseId":"6850abc123def456ghi789","externalId":"applicant-1","occurredAt":"2025-06-22T10:30:00Z"}}"#;
const SAME_EVENT: &str = r#"{"eventName":"case.extraction.completed","payload":{"caseId":"6850abc123def456ghi789","externalId":null,"occurredAt":"2025-06-22T10:30:00Z"}}"#;
const FAILED: &str = r#"{"payload":{"occurredAt":"2025-06-22T12:30:00.250+02:00","caseId":"6850abc123def456ghi789"},"eventName":"case.translation.failed"}"#;
const UNDOCUMENTED: &str = r#"{"eventName":"case.accreditation.completed","payload":{"caseId":"6850abc123def456ghi789","externalId":null,"occurredAt":"2025-06-22T10:30:00Z"}}"#;
const SHADOWED: &str = r#"{"eventName":"case.forensics.completed","payload":{"caseId":"6850abc123def456ghi789","externalId":null,"occurredAt":"2025-06-22T10:30:00Z"}}"#;
const DAMAGED: &str = r#"{"eventName":"case.forensics.completed","#;

/// The requests to record, and the policy under which the filter judges them.
fn requests() -> Vec<(Value, Vec<(&'static str, String)>)> {
    let enforced = json!({
        "authenticity": { "kind": "path_token", "tokens": [TOKEN] },
        "unknown_events": "quarantine",
    });
    let webhook = format!("POST /webhooks/truenroll/{TOKEN}\ncontent-type: application/json");
    let post = |body: &str| format!("{webhook}\n\n{body}");
    let forged = format!("{webhook}\nx-edge-judged: forged;forged;accepted\nx-edge-other: forged\n\n{EVENT}");
    let plain = |body: &str| format!("POST /webhooks/truenroll\ncontent-type: application/json\n\n{body}");
    let prove = "GET /-/guardctl/prove";
    vec![
        (
            enforced,
            vec![
                ("an event whose sender forges headers of the edge", forged),
                ("the same event again", post(EVENT)),
                ("the same event with another body", post(SAME_EVENT)),
                ("an event with its members in another order, and without externalId", post(FAILED)),
                ("an undocumented event that the policy quarantines", post(UNDOCUMENTED)),
                ("a damaged body, which the filter rejects", post(DAMAGED)),
                ("guardctl asks whether the backend knows the filter's proof", prove.to_owned()),
                ("guardctl asks about the proof of another build", format!("{prove}\nauthorization: Bearer {PROOF}")),
                ("guardctl asks about an unknown proof", format!("{prove}\nauthorization: Bearer an-unknown-proof")),
            ],
        ),
        (
            json!({ "mode": "shadow" }),
            vec![
                ("an event in shadow mode", plain(SHADOWED)),
                ("a damaged body in shadow mode", plain(DAMAGED)),
                ("an undocumented event in shadow mode", plain(UNDOCUMENTED)),
                ("another method in shadow mode", "GET /webhooks/truenroll".to_owned()),
            ],
        ),
    ]
}

#[tokio::main]
async fn main() -> Result<()> {
    let simulator = Simulator::start("127.0.0.1:0", API_KEY, SINK_SECRET).await?;
    simulator.world.upload("6850abc123def456ghi789", Some("applicant-1"), &Feature::ALL);
    for feature in Feature::ALL {
        simulator.world.finish("6850abc123def456ghi789", feature, Stage::Completed, "2025-06-22T10:30:00Z");
    }
    let upstream = Upstream::start().await?;
    let mut options = Options::new(simulator.url());
    options.bootstrap.push(("backend_port", upstream.port().to_string()));
    let stack = Stack::start(options)?;
    upstream.pass_to(stack.ingest());
    let client = sender::client();
    for (policy, requests) in requests() {
        serve_filter(&stack, &policy).await?;
        for (name, sent) in requests {
            message::send(&client, &listener(&stack, &sent), &sent).await?;
            let (passed, answered) = upstream.take();
            let exchange = Exchange { name: name.to_owned(), policy: policy.clone(), sent, passed, answered };
            println!("{}", exchange.write());
        }
    }
    stack.stop()
}
