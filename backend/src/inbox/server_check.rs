//! Does the server keep what it is given?

use std::collections::HashMap;

use redis::aio::ConnectionManager;

use super::InboxError;

/// Reads the server's settings and compares them with what is demanded of it.
pub(super) async fn check(mut connection: ConnectionManager, must_sync: bool) -> Result<(), InboxError> {
    let mut command = redis::cmd("CONFIG");
    command.arg("GET").arg("appendonly").arg("appendfsync").arg("maxmemory-policy");
    let answer: Result<HashMap<String, String>, _> = command.query_async(&mut connection).await;
    let settings = answer.map_err(|error| {
        InboxError::Server(format!(
            "Redis does not say how it keeps its data (CONFIG GET: {error}); where that is forbidden, make sure of it in \
             another way and set `redis.check_server` to false"
        ))
    })?;
    let setting = |name: &str| settings.get(name).map(String::as_str).unwrap_or_default();
    let demands = [
        ("maxmemory-policy", "noeviction", "Redis may drop events and their keys when its memory is full", true),
        ("appendonly", "yes", "Redis does not write what it stores to its disk", must_sync),
        ("appendfsync", "always", "Redis answers before what it stores is on its disk", must_sync),
    ];
    for (name, demanded, consequence, applies) in demands {
        let actual = setting(name);
        if applies && actual != demanded {
            let way_out = if name == "maxmemory-policy" { "" } else { ", or `redis.durability` to \"memory\"" };
            return Err(InboxError::Server(format!(
                "{consequence}: it runs with `{name} {actual}`; set it to `{name} {demanded}`{way_out}"
            )));
        }
    }
    Ok(())
}
