//! What a server must do so that it loses no event, and how the backend checks it.

use std::{collections::HashMap, time::Duration};

use redis::{RedisError, aio::ConnectionLike};

use crate::{
    config::{self, Durability, Topology},
    inbox::{
        InboxError,
        error::{Unfit, within},
    },
};

/// What a server must do.
#[derive(Debug, Clone, Copy)]
pub(in crate::inbox) struct Requirements {
    pub(in crate::inbox) durability: Durability,
    pub(in crate::inbox) topology: Topology,
    /// How long a check waits for the server's answers.
    pub(in crate::inbox) timeout: Duration,
}

/// The proof that a server meets the requirements.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::inbox) struct Proof {
    /// Whether an event is on the server's disk as soon as the server answers, and nothing more is
    /// required.
    pub(in crate::inbox) syncs_always: bool,
}

/// A setting of Redis that every server must have.
struct Rule {
    setting: &'static str,
    /// The values that meet the requirements; the first one is recommended. Redis versions that
    /// lack the setting report no value.
    accepted: &'static [&'static str],
    scope: Scope,
    /// What the server does otherwise.
    consequence: &'static str,
}

/// Under which durability a rule applies.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Scope {
    Any,
    Fsync,
}

const RULES: [Rule; 4] = [
    Rule {
        setting: "maxmemory-policy",
        accepted: &["noeviction"],
        scope: Scope::Any,
        consequence: "it may drop events when its memory is full",
    },
    Rule {
        setting: "appendonly",
        accepted: &["yes"],
        scope: Scope::Fsync,
        consequence: "it does not write events to its disk",
    },
    Rule {
        setting: "no-appendfsync-on-rewrite",
        accepted: &["no", ""],
        scope: Scope::Fsync,
        consequence: "it does not sync events to its disk while it rewrites its append-only file",
    },
    Rule {
        setting: "appendfsync",
        // With `everysec` the backend waits for each event with `WAITAOF`.
        accepted: &["always", "everysec"],
        scope: Scope::Fsync,
        consequence: "it does not say when an event is on its disk",
    },
];

impl Requirements {
    /// Returns what the configuration requires.
    pub(in crate::inbox) fn of(config: &config::Redis, timeout: Duration) -> Self {
        Self { durability: config.durability, topology: config.topology, timeout }
    }

    /// Reads the settings of the server at the other end of `connection`, and compares them with
    /// the requirements.
    ///
    /// # Errors
    /// Returns [`InboxError::Unfit`] if the server is proved not to meet the requirements. Every
    /// other error proves nothing.
    pub(in crate::inbox) async fn check(
        &self,
        address: &str,
        connection: &mut impl ConnectionLike,
    ) -> Result<Proof, InboxError> {
        within(self.timeout, self.query(address, connection)).await
    }

    async fn query(&self, address: &str, connection: &mut impl ConnectionLike) -> Result<Proof, InboxError> {
        let settings = query_settings(address, connection).await?;
        // Before `INFO`: wrong settings are proved even if `INFO` gets no answer.
        check_settings(&settings, self.durability).map_err(|problem| unfit(address, &problem))?;
        let info: String = redis::cmd("INFO").query_async(connection).await?;
        self.check_info(address, &settings, &info)
    }

    /// Checks only whether the server evicts keys.
    ///
    /// # Errors
    /// As for [`Self::check`].
    pub(in crate::inbox) async fn check_eviction(
        &self,
        address: &str,
        connection: &mut impl ConnectionLike,
    ) -> Result<(), InboxError> {
        let settings = query_settings(address, connection).await?;
        check_rules(&settings, Scope::Any).map_err(|problem| unfit(address, &problem))
    }

    /// Checks everything but whether the server evicts keys.
    ///
    /// # Errors
    /// As for [`Self::check`].
    pub(in crate::inbox) async fn check_durability(
        &self,
        address: &str,
        connection: &mut impl ConnectionLike,
    ) -> Result<Proof, InboxError> {
        let mut settings = HashMap::new();
        // Nothing else depends on settings.
        if self.durability == Durability::Fsync {
            settings = query_settings(address, connection).await?;
            check_rules(&settings, Scope::Fsync).map_err(|problem| unfit(address, &problem))?;
        }
        let info: String = redis::cmd("INFO").query_async(connection).await?;
        self.check_info(address, &settings, &info)
    }

    /// Compares the answer of `INFO` with the requirements, after the settings were checked.
    fn check_info(&self, address: &str, settings: &HashMap<String, String>, info: &str) -> Result<Proof, InboxError> {
        // Before the replication, which may change by itself.
        if self.topology == Topology::Single && value_of(info, "cluster_enabled") == Some("1") {
            return Err(unfit(address, "belongs to a cluster: set `redis.topology` to \"cluster\""));
        }
        check_replication(info, self.durability)
            .map_err(|problem| InboxError::Unfit(Unfit::Replication(format!("Redis at {address} {problem}"))))?;
        let syncs_always = self.durability == Durability::Fsync && setting(settings, "appendfsync") == "always";
        Ok(Proof { syncs_always })
    }
}

async fn query_settings(
    address: &str,
    connection: &mut impl ConnectionLike,
) -> Result<HashMap<String, String>, InboxError> {
    let mut command = redis::cmd("CONFIG");
    command.arg("GET");
    for rule in RULES {
        command.arg(rule.setting);
    }
    command.query_async(connection).await.map_err(|error: RedisError| match error {
        error if is_forbidden(&error) => InboxError::Unfit(Unfit::Unusable(format!(
            "Redis at {address} does not reveal its settings (CONFIG GET: {error}): allow `CONFIG GET`, or check them \
             yourself and set `redis.check_server` to false"
        ))),
        error => error.into(),
    })
}

/// The error of a server that does not meet the requirements. `problem` continues the sentence
/// "Redis at ADDRESS …".
fn unfit(address: &str, problem: &str) -> InboxError {
    InboxError::Unfit(Unfit::Unusable(format!("Redis at {address} {problem}")))
}

fn check_settings(settings: &HashMap<String, String>, durability: Durability) -> Result<(), String> {
    check_rules(settings, Scope::Any)?;
    if durability == Durability::Fsync { check_rules(settings, Scope::Fsync) } else { Ok(()) }
}

fn check_rules(settings: &HashMap<String, String>, scope: Scope) -> Result<(), String> {
    for Rule { setting: name, accepted, consequence, .. } in RULES.iter().filter(|rule| rule.scope == scope) {
        let actual = setting(settings, name);
        if !accepted.contains(&actual) {
            let alternative = match scope {
                Scope::Any => "",
                Scope::Fsync => ", or set `redis.durability` to \"memory\"",
            };
            return Err(format!(
                "runs with `{name} {actual}`, so {consequence}: set it to `{name} {recommended}`{alternative}",
                recommended = accepted[0]
            ));
        }
    }
    Ok(())
}

fn check_replication(info: &str, durability: Durability) -> Result<(), String> {
    if value_of(info, "role") == Some("slave") {
        return Err(
            "is a replica, which stores nothing: `redis.url` must name the primary, or the sentinels".to_owned()
        );
    }
    let connected: u8 = value_of(info, "connected_slaves").and_then(|number| number.parse().ok()).unwrap_or_default();
    match durability {
        Durability::Replicas(needed) if connected < needed => Err(format!(
            "has {connected} connected replicas, but `redis.durability` asks for {needed} replicas: connect more, or ask for \
             fewer"
        )),
        _ => Ok(()),
    }
}

fn setting<'a>(settings: &'a HashMap<String, String>, name: &str) -> &'a str {
    settings.get(name).map(String::as_str).unwrap_or_default()
}

/// Returns a value of the answer of `INFO`, which has one `name:value` on each line.
pub(in crate::inbox) fn value_of<'a>(info: &'a str, name: &str) -> Option<&'a str> {
    info.lines().find_map(|line| line.trim_end().strip_prefix(name)?.strip_prefix(':'))
}

fn is_forbidden(error: &RedisError) -> bool {
    error.code().is_some_and(|code| matches!(code, "NOPERM" | "ERR"))
}

#[cfg(test)]
mod tests {
    use std::future::pending;

    use redis::{Arg, Cmd, Pipeline, RedisFuture, Value};

    use super::*;

    const GOOD: [(&str, &str); 4] = [
        ("appendonly", "yes"),
        ("appendfsync", "always"),
        ("no-appendfsync-on-rewrite", "no"),
        ("maxmemory-policy", "noeviction"),
    ];

    fn good_but(name: &str, value: &str) -> HashMap<String, String> {
        GOOD.into_iter().chain([(name, value)]).map(|(name, value)| (name.to_owned(), value.to_owned())).collect()
    }

    #[test]
    fn a_setting_that_loses_events_is_named_with_the_value_it_should_have() {
        for (durability, name, value, said) in [
            (Durability::Fsync, "appendfsync", "always", None),
            (Durability::Fsync, "appendfsync", "everysec", None),
            (Durability::Fsync, "no-appendfsync-on-rewrite", "", None),
            (Durability::Fsync, "appendonly", "no", Some("set it to `appendonly yes`, or")),
            (Durability::Fsync, "appendonly", "", Some("set it to `appendonly yes`, or")),
            (Durability::Fsync, "appendfsync", "no", Some("set it to `appendfsync always`, or")),
            (Durability::Fsync, "no-appendfsync-on-rewrite", "yes", Some("set it to `no-appendfsync-on-rewrite no`")),
            (Durability::Fsync, "maxmemory-policy", "allkeys-lru", Some("set it to `maxmemory-policy noeviction`")),
            (Durability::Memory, "no-appendfsync-on-rewrite", "yes", None),
            (Durability::Replicas(1), "no-appendfsync-on-rewrite", "yes", None),
            (Durability::Memory, "appendonly", "no", None),
            (Durability::Memory, "maxmemory-policy", "volatile-ttl", Some("set it to `maxmemory-policy noeviction`")),
        ] {
            let checked = check_settings(&good_but(name, value), durability);
            match said {
                None => assert_eq!(checked, Ok(()), "{durability:?}: {name} {value}"),
                Some(said) => assert!(checked.as_ref().is_err_and(|error| error.contains(said)), "{checked:?}"),
            }
        }
    }

    /// A server that answers `CONFIG GET` with `settings`, and nothing else.
    struct Mute {
        settings: HashMap<String, String>,
    }

    impl ConnectionLike for Mute {
        fn req_packed_command<'a>(&'a mut self, command: &'a Cmd) -> RedisFuture<'a, Value> {
            let is_config = command.args_iter().next() == Some(Arg::Simple(b"CONFIG"));
            let text = |text: &String| Value::BulkString(text.clone().into_bytes());
            let answer = self.settings.iter().flat_map(|(name, value)| [text(name), text(value)]).collect();
            Box::pin(async move { if is_config { Ok(Value::Array(answer)) } else { pending().await } })
        }

        fn req_packed_commands<'a>(&'a mut self, _: &'a Pipeline, _: usize, _: usize) -> RedisFuture<'a, Vec<Value>> {
            Box::pin(pending())
        }

        fn get_db(&self) -> i64 {
            0
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_wrong_setting_is_proved_even_if_the_server_answers_nothing_else() {
        let timeout = Duration::from_secs(3);
        let requirements = Requirements { durability: Durability::Fsync, topology: Topology::Single, timeout };
        let checked = requirements.check("host:1", &mut Mute { settings: good_but("appendonly", "no") }).await;
        assert!(matches!(checked, Err(InboxError::Unfit(_))), "{checked:?}");
        let checked = requirements.check("host:1", &mut Mute { settings: good_but("appendonly", "yes") }).await;
        assert!(matches!(checked, Err(InboxError::Timeout(_))), "{checked:?}");
    }

    #[test]
    fn a_replica_and_a_primary_with_too_few_replicas_are_unfit() {
        for (info, durability, said) in [
            ("role:master\r\nconnected_slaves:0\r\n", Durability::Fsync, None),
            ("role:master\r\nconnected_slaves:2\r\n", Durability::Replicas(2), None),
            ("role:master\r\nconnected_slaves:1\r\n", Durability::Replicas(2), Some("asks for 2 replicas")),
            ("role:master\r\n", Durability::Replicas(1), Some("has 0 connected replicas")),
            ("role:slave\r\nconnected_slaves:2\r\n", Durability::Replicas(2), Some("must name the primary")),
            ("# Replication\r\nrole:slave\r\n", Durability::Memory, Some("must name the primary")),
        ] {
            let checked = check_replication(info, durability);
            match said {
                None => assert_eq!(checked, Ok(()), "{info}"),
                Some(said) => assert!(checked.as_ref().is_err_and(|error| error.contains(said)), "{checked:?}"),
            }
        }
    }

    #[test]
    fn only_a_server_that_syncs_before_it_answers_needs_no_confirmation() {
        for (durability, appendfsync, syncs_always) in [
            (Durability::Fsync, "always", true),
            (Durability::Fsync, "everysec", false),
            (Durability::Replicas(1), "always", false),
            (Durability::Memory, "always", false),
        ] {
            let requirements = Requirements { durability, topology: Topology::Single, timeout: Duration::ZERO };
            let info = "role:master\r\nconnected_slaves:1\r\ncluster_enabled:0\r\n";
            let checked = requirements.check_info("host:1", &good_but("appendfsync", appendfsync), info);
            assert_eq!(checked.unwrap(), Proof { syncs_always }, "{durability:?} {appendfsync}");
        }
    }

    #[test]
    fn a_cluster_server_is_unfit_as_the_only_server() {
        for (topology, is_fit) in [(Topology::Single, false), (Topology::Sentinel, true), (Topology::Cluster, true)] {
            let requirements = Requirements { durability: Durability::Memory, topology, timeout: Duration::ZERO };
            let info = "role:master\r\ncluster_enabled:1\r\n";
            let checked = requirements.check_info("host:1", &good_but("appendonly", "no"), info);
            assert_eq!(checked.is_ok(), is_fit, "{topology:?}: {checked:?}");
        }
    }

    #[test]
    fn what_is_wrong_with_the_replication_is_temporary_unless_the_topology_is_wrong_too() {
        for (topology, cluster_enabled, is_temporary) in
            [(Topology::Single, 0, true), (Topology::Single, 1, false), (Topology::Cluster, 1, true)]
        {
            let requirements = Requirements { durability: Durability::Replicas(1), topology, timeout: Duration::ZERO };
            for role in ["role:slave", "role:master\r\nconnected_slaves:0"] {
                let info = format!("{role}\r\ncluster_enabled:{cluster_enabled}\r\n");
                let error = requirements.check_info("host:1", &HashMap::new(), &info).unwrap_err();
                assert_eq!(error.is_temporary(), is_temporary, "{topology:?}: {error}");
            }
        }
    }
}
