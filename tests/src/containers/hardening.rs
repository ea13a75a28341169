//! Whether containers run with as few rights as possible and within limits.

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};

use super::Project;

/// Checks every container of these services.
///
/// # Errors
/// If a container has more rights than it needs, or lacks a limit; the error lists what is wrong.
pub async fn ensure_hardened(project: &Project, services: &[&str]) -> Result<()> {
    let mut wrong = Vec::new();
    for service in services {
        let containers = project.containers(service).await?;
        ensure!(!containers.is_empty(), "{} has no container of service {service}", project.name);
        for container in containers {
            let inspected = serde_json::from_str(&container.inspect("{{json .}}").await?);
            let inspected = inspected.context("the engine describes a container in JSON")?;
            wrong.extend(weaknesses(&inspected).into_iter().map(|weakness| format!("{service}: {weakness}")));
        }
    }
    ensure!(wrong.is_empty(), "containers are not hardened: {wrong:#?}");
    Ok(())
}

/// What is wrong with a container, as `docker inspect` describes it.
fn weaknesses(container: &Value) -> Vec<&'static str> {
    let host = &container["HostConfig"];
    let user = container["Config"]["User"].as_str().unwrap_or_default().split(':').next().unwrap_or_default();
    let is_positive = |value: &Value| value.as_i64().is_some_and(|number| number > 0);
    let has = |list: &Value, wanted: &str| list.as_array().is_some_and(|list| list.iter().any(|item| item == wanted));
    let is_empty = |list: &Value| list.as_array().is_none_or(Vec::is_empty);
    let log = &host["LogConfig"]["Config"];
    [
        (host["ReadonlyRootfs"] == json!(true), "the root file system is writable"),
        (has(&host["CapDrop"], "ALL") && is_empty(&host["CapAdd"]), "it has capabilities"),
        (host["Privileged"] == json!(false), "it is privileged"),
        (has(&host["SecurityOpt"], "no-new-privileges:true"), "it can gain privileges"),
        (!matches!(user, "" | "0" | "root"), "it runs as root"),
        (is_positive(&host["Memory"]), "its memory has no limit"),
        (is_positive(&host["PidsLimit"]), "the number of its processes has no limit"),
        (log["max-size"].is_string() && log["max-file"].is_string(), "its log has no limit"),
    ]
    .into_iter()
    .filter_map(|(is_right, weakness)| (!is_right).then_some(weakness))
    .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hardened() -> Value {
        json!({
            "Config": { "User": "65532:65532" },
            "HostConfig": {
                "ReadonlyRootfs": true,
                "CapDrop": ["ALL"],
                "CapAdd": null,
                "Privileged": false,
                "SecurityOpt": ["no-new-privileges:true"],
                "Memory": 536_870_912,
                "PidsLimit": 1024,
                "LogConfig": { "Type": "json-file", "Config": { "max-size": "20m", "max-file": "5" } },
            },
        })
    }

    #[test]
    fn every_weakness_is_noticed() {
        assert_eq!(weaknesses(&hardened()), [""; 0]);
        for (pointer, value, expected) in [
            ("/HostConfig/ReadonlyRootfs", json!(false), "the root file system is writable"),
            ("/HostConfig/CapDrop", json!(null), "it has capabilities"),
            ("/HostConfig/CapAdd", json!(["NET_ADMIN"]), "it has capabilities"),
            ("/HostConfig/Privileged", json!(true), "it is privileged"),
            ("/HostConfig/SecurityOpt", json!(null), "it can gain privileges"),
            ("/Config/User", json!(""), "it runs as root"),
            ("/Config/User", json!("0:0"), "it runs as root"),
            ("/HostConfig/Memory", json!(0), "its memory has no limit"),
            ("/HostConfig/PidsLimit", json!(null), "the number of its processes has no limit"),
            ("/HostConfig/LogConfig/Config", json!({}), "its log has no limit"),
        ] {
            let mut container = hardened();
            *container.pointer_mut(pointer).unwrap() = value;
            assert_eq!(weaknesses(&container), [expected], "{pointer}");
        }
    }
}
