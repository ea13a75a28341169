//! The metrics are as Prometheus expects them, and say what is true.

use std::{
    io::Write,
    process::{Command, Stdio},
    time::{Duration, Instant, SystemTime},
};

use axum::http::StatusCode;
use envelope::{Feature, Stage};
use harness::{keys, metrics::Metrics, proxy, simulator::world::Fault, stack::Options, tools};

use crate::{
    fixture::{Fixture, eventually},
    monitoring,
};

/// What promtool says about metrics in the text format of Prometheus; nothing if they are clean.
fn lint(metrics: &str) -> Vec<String> {
    let mut command = Command::new(tools::promtool().unwrap());
    command.args(["check", "metrics"]).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut promtool = command.spawn().unwrap();
    promtool.stdin.take().unwrap().write_all(metrics.as_bytes()).unwrap();
    let output = promtool.wait_with_output().unwrap();
    let said = format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert_eq!(output.status.success(), said.is_empty(), "{said}");
    said.lines().map(str::to_owned).collect()
}

/// Rewrites OpenMetrics, in which `# TYPE` names a counter without `_total`, to the text format that
/// promtool reads.
fn as_text_format(metrics: &str) -> String {
    let counters: Vec<_> = metrics
        .lines()
        .filter_map(|line| line.strip_prefix("# TYPE ")?.strip_suffix(" counter"))
        .map(|name| [format!("# TYPE {name} "), format!("# HELP {name} ")])
        .collect();
    let line = |line: &str| match counters.iter().flatten().find(|start| line.starts_with(*start)) {
        Some(start) => format!("{}_total {}\n", start.trim_end(), &line[start.len()..]),
        None => format!("{line}\n"),
    };
    metrics.lines().map(line).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn the_metrics_are_clean_and_say_what_is_true() {
    let fixture = Fixture::start_with(|options| {
        options.backend("partner_api.breaker_failures", 3).backend("partner_api.breaker_open_ms", 2_000)
    })
    .await;
    let text = async |url: &str| reqwest::get(url).await.unwrap().text().await.unwrap();
    let backend = format!("{}/metrics", fixture.stack.admin());
    let exposed = text(&backend).await;
    for (series, value) in [
        ("truenroll_backend_ingest_total{answer=\"unproven\"}", "0"),
        ("truenroll_backend_backfilled_total{feature=\"forensics\",stage=\"failed\"}", "0"),
        ("truenroll_backend_expired_total{from=\"dead\"}", "0"),
        ("truenroll_backend_config_last_reload_successful", "1"),
        ("truenroll_backend_redis_up", "1"),
    ] {
        assert!(exposed.lines().any(|line| line == format!("{series} {value}")), "{series} {value}: {exposed}");
    }
    assert!(!exposed.contains("truenroll_backend_oldest_event_timestamp_seconds{"), "{exposed}");

    let event = |case: &str| fixture.event(case, Feature::Extraction, Stage::Completed, "2025-06-22T10:30:00Z");
    fixture.send_accepted(&event("smooth")).await;
    fixture.delivered(1).await;
    fixture.simulator.application.fail_next([(StatusCode::GONE, Duration::ZERO)]);
    fixture.send_accepted(&event("dead")).await;
    eventually("the event is a dead letter", async || {
        let metrics = fixture.stack.backend_metrics().await.unwrap();
        metrics.sum("truenroll_backend_dead_letter_entries", &["code=\"sink_rejected\""]) == 1
    })
    .await;
    fixture.stack.backend_command(&["pause", "extraction"]).unwrap();
    fixture.send_accepted(&event("waits")).await;

    let mut all = vec![text(&backend).await];
    let metrics = Metrics::parse(&all[0]);
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap().as_secs();
    for (name, labels, expected) in [
        ("truenroll_backend_inbox_entries", "", 1..=1),
        ("truenroll_backend_oldest_event_timestamp_seconds", "feature=\"extraction\"", now - 60..=now + 1),
        ("truenroll_backend_dead_letter_entries", "", 1..=1),
        ("truenroll_backend_history_entries", "", 1..=2),
        ("truenroll_backend_partitions_unowned", "", 0..=0),
        ("truenroll_backend_partner_api_seconds_count", "code=\"ok\"", 2..=10),
        ("truenroll_backend_partner_api_wait_seconds_count", "", 2..=10),
        ("truenroll_backend_partner_api_circuit_open", "", 0..=0),
        ("truenroll_backend_sink_seconds_count", "code=\"ok\"", 1..=1),
        ("truenroll_backend_sink_seconds_count", "code=\"sink_rejected\"", 1..=1),
        ("truenroll_backend_build_info", concat!("version=\"", env!("CARGO_PKG_VERSION"), "\""), 1..=1),
        ("process_start_time_seconds", "", now - 600..=now),
        ("process_resident_memory_bytes", "", 1 << 20..=1 << 30),
        ("process_open_fds", "", 10..=1_000),
    ] {
        let labels: Vec<_> = Some(labels).filter(|labels| !labels.is_empty()).into_iter().collect();
        let value = metrics.sum(name, &labels);
        assert!(expected.contains(&value), "{name} {labels:?}: {value} is not in {expected:?}");
    }
    assert_eq!(lint(&as_text_format(&all[0])), [""; 0]);

    // Envoy writes no help, its counters have no suffix, and its metrics are whole numbers, so that a
    // time must not be in seconds. That is all.
    let envoy = text(&format!("{}/stats/prometheus", fixture.stack.envoy_admin_url())).await;
    let of_envoy = [
        "no help text",
        "counter metrics should have \"_total\" suffix",
        "use base unit \"seconds\" instead of \"nanoseconds\"",
    ];
    let complaints = lint(&envoy);
    let about_filter = || complaints.iter().filter(|complaint| complaint.starts_with("truenroll_filter_"));
    assert!(about_filter().count() > 0, "{complaints:?}");
    for complaint in about_filter() {
        assert!(of_envoy.iter().any(|end| complaint.ends_with(end)), "{complaint}");
    }

    let circuit_open =
        async || fixture.stack.backend_metrics().await.unwrap().sum("truenroll_backend_partner_api_circuit_open", &[]);
    fixture.simulator.world.fail_next([503; 3].map(Fault::status));
    fixture.stack.backend_command(&["resume", "extraction"]).unwrap();
    eventually("the circuit breaker opens", async || circuit_open().await == 1).await;
    eventually("the circuit breaker closes", async || circuit_open().await == 0).await;
    fixture.stack.backend_command(&["replay"]).unwrap();
    let metrics = fixture.stack.backend_metrics().await.unwrap();
    let dead_letters = metrics.by_label("truenroll_backend_dead_letter_entries", "code");
    assert!(dead_letters.contains_key("sink_rejected") && dead_letters.values().all(|number| *number == 0));
    all.extend([text(&backend).await, envoy]);
    monitoring::assert_named_exist(&monitoring::exposed(&all));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_slow_redis_does_not_delay_the_metrics_and_they_say_whether_it_answers() {
    let fixture =
        Fixture::start_with(|options| Options { proxied: true, ..options }.backend("ingest.store_timeout_ms", 300))
            .await;
    let network = fixture.stack.networks[0].redis.as_ref().unwrap();
    let add = || {
        let mut add = redis::cmd("XADD");
        add.arg(keys::of_partition(5).dead()).arg("*").arg("code").arg("not_ready");
        let _: String = fixture.redis(&add);
    };
    add();
    // Each command waits for its request and for its answer.
    for (fault, is_up, dead_letters) in [
        (None, 1, 1),
        (Some(proxy::Fault::Delayed(Duration::from_millis(20))), 1, 2),
        (Some(proxy::Fault::Delayed(Duration::from_millis(400))), 0, 2),
        (Some(proxy::Fault::Stalled), 0, 2),
        (Some(proxy::Fault::Rejected), 0, 2),
        (None, 1, 6),
    ] {
        fault.map_or_else(|| network.heal(), |fault| network.fail(fault));
        // Connections that broke are replaced first. While Redis does not answer, what was read last is
        // shown.
        eventually(&format!("{fault:?}: `redis_up` is {is_up}, with {dead_letters} dead letters"), async || {
            let begin = Instant::now();
            let metrics = fixture.stack.backend_metrics().await.unwrap();
            // Two commands, one after the other, the count, and a busy machine.
            assert!(begin.elapsed() < Duration::from_millis(2 * 300 + 500 + 1_000), "{fault:?}: {:?}", begin.elapsed());
            metrics.sum("truenroll_backend_redis_up", &[]) == is_up
                && metrics.sum("truenroll_backend_dead_letter_entries", &["code=\"not_ready\""]) == dead_letters
        })
        .await;
        add();
    }
}
