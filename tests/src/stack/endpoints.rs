//! The addresses of a stack's programs, and the metrics that they serve.

use anyhow::Result;
use serde_json::Value;

use super::{Group, Stack};
use crate::metrics::Metrics;

impl Stack {
    /// The URL that TruEnroll posts its events to.
    pub fn webhook(&self) -> String {
        let path = self.options.policy.get("path").and_then(Value::as_str).unwrap_or("/webhooks/truenroll");
        format!("{}{path}", self.edge())
    }

    /// The URL of Envoy's listener for webhooks, without a path.
    pub fn edge(&self) -> String {
        loopback(self.ports.edge)
    }

    /// The URL of the first backend's ingest.
    pub fn ingest(&self) -> String {
        loopback(self.ports.ingest)
    }

    /// The URL of the first backend's listener for operators.
    pub fn admin(&self) -> String {
        loopback(self.ports.admin)
    }

    /// The URL of Envoy's listener for operators.
    pub fn envoy_admin_url(&self) -> String {
        loopback(self.ports.envoy_metrics)
    }

    /// The URL of the first backend's console; `None` if it has none.
    pub fn console(&self) -> Option<String> {
        self.options.backend.get("console.listen").map(|address| format!("http://{address}"))
    }

    /// The URL of Redis. Empty if there are several servers.
    pub fn redis_url(&self) -> String {
        self.options.redis_url.clone().unwrap_or_default()
    }

    /// The URLs of all primaries.
    ///
    /// # Errors
    /// If several servers do not agree which of them are primaries.
    pub fn redis_urls(&self) -> Result<Vec<String>> {
        self.group.as_ref().map_or_else(|| Ok(vec![self.redis_url()]), Group::primaries)
    }

    /// The metrics of the first backend.
    ///
    /// # Errors
    /// If the backend does not answer.
    pub async fn backend_metrics(&self) -> Result<Metrics> {
        get_metrics(&format!("{}/metrics", self.admin())).await
    }

    /// The metrics of each backend, starting with the first.
    ///
    /// # Errors
    /// If a backend does not answer.
    pub async fn all_backend_metrics(&self) -> Result<Vec<Metrics>> {
        let mut all = vec![self.backend_metrics().await?];
        for ports in &self.replica_ports {
            all.push(get_metrics(&format!("{}/metrics", loopback(ports.admin))).await?);
        }
        Ok(all)
    }

    /// The metrics of Envoy and of the filter.
    ///
    /// # Errors
    /// If Envoy does not answer.
    pub async fn envoy_metrics(&self) -> Result<Metrics> {
        get_metrics(&format!("{}/stats/prometheus", self.envoy_admin_url())).await
    }
}

fn loopback(port: u16) -> String {
    format!("http://127.0.0.1:{port}")
}

async fn get_metrics(url: &str) -> Result<Metrics> {
    let answer = reqwest::get(url).await?.error_for_status()?;
    Ok(Metrics::parse(&answer.text().await?))
}
