//! The client's address: that of the peer, or the one that a configured number of trusted proxies
//! reports.

use harness::{simulator::sender, stack::Options};
use reqwest::header::CONTENT_TYPE;
use serde_json::Value;

use crate::fixture::{Fixture, eventually};

#[tokio::test(flavor = "multi_thread")]
async fn the_allow_list_applies_to_the_client_address_that_trusted_proxies_report() {
    // The X-Forwarded-For header that arrives, and the client's address that follows from it.
    let without_a_proxy =
        [(None, "127.0.0.1"), (Some("192.0.2.7"), "127.0.0.1"), (Some("192.0.2.7, 192.0.2.8"), "127.0.0.1")];
    let behind_one_proxy = [
        (None, "127.0.0.1"),
        (Some("192.0.2.7"), "192.0.2.7"),
        (Some("198.51.100.1, 192.0.2.7"), "192.0.2.7"),
        (Some("192.0.2.7, 198.51.100.1"), "198.51.100.1"),
        (Some("192.0.2.7, 192.0.2.8, 198.51.100.1"), "198.51.100.1"),
    ];
    for (proxies, cases) in [(0, &without_a_proxy[..]), (1, &behind_one_proxy[..])] {
        let bootstrap = vec![("allowed_network", "192.0.2.0".to_owned()), ("trusted_proxies", proxies.to_string())];
        let enable = vec!["ip_allow_list"];
        let fixture = Fixture::start_with(|options| Options { enable, bootstrap, ..options }).await;
        for (number, (forwarded, client)) in cases.iter().enumerate() {
            let event = fixture.events(&format!("client-{number}"), 1).remove(0);
            let mut request = sender::client().post(fixture.stack.webhook()).header(CONTENT_TYPE, "application/json");
            if let Some(forwarded) = forwarded {
                request = request.header("x-forwarded-for", *forwarded);
            }
            let answer = request.body(event.body).send().await.unwrap();
            let expected = if client.starts_with("192.0.2.") { 202 } else { 403 };
            assert_eq!(answer.status(), expected, "{forwarded:?} behind {proxies}");
            if expected == 403 {
                assert_eq!(answer.headers()[CONTENT_TYPE], "application/problem+json");
                assert_eq!(answer.json::<Value>().await.unwrap()["code"], "client_not_allowed");
            }
        }
        let clients: Vec<_> = cases.iter().map(|(_, client)| Value::from(*client)).collect();
        eventually("the clients' addresses are in the access log", async || {
            let log = fixture.stack.envoy.log();
            let lines = log.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
            // Rejected and accepted requests have loggers of their own, which do not keep a common
            // order.
            let mut logged: Vec<_> = lines.map(|line| line["client"].as_str().unwrap().to_owned()).collect();
            let mut expected: Vec<_> = clients.iter().map(|client| client.as_str().unwrap().to_owned()).collect();
            logged.sort();
            expected.sort();
            logged == expected
        })
        .await;
    }
}
