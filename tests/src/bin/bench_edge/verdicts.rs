//! How many of the golden vectors an implementation decides wrongly, so that no cost is shown without
//! what it buys.

use std::{fmt::Write as _, time::Duration};

use anyhow::{Context, Result, anyhow};
use envelope::vectors::{self, Vector};
use harness::{tools::say, vector_request};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    time::timeout,
};

use crate::variants::Variant;

const PATIENCE: Duration = Duration::from_secs(10);

/// Sends every vector of the default policy to every implementation, and returns a table.
pub(crate) async fn judge(variants: &[Variant]) -> Result<String> {
    let vectors = vectors::all().map_err(|error| anyhow!(error))?;
    let usual: Vec<_> = vectors.iter().filter(|vector| vector.policy == serde_json::json!({})).collect();
    let mut table = format!(
        "## Verdicts\n\nEach implementation judges the {} golden vectors of the default policy, over HTTP/1.1.\n\n\
         | implementation | decided as expected | invalid requests that pass | valid events that are rejected |\n\
         |---|---|---|---|\n",
        usual.len()
    );
    for variant in variants {
        let (mut passed, mut rejected) = (Vec::new(), Vec::new());
        for vector in &usual {
            let status =
                status(variant.port, vector).await.with_context(|| format!("{}: {}", variant.name, vector.name))?;
            match (vector.expected().is_ok(), (200..300).contains(&status)) {
                (false, true) => passed.push(vector.name.as_str()),
                (true, false) => rejected.push(vector.name.as_str()),
                _ => {}
            }
        }
        let right = usual.len() - passed.len() - rejected.len();
        writeln!(table, "| {} | {right} | {} | {} |", variant.name, passed.len(), rejected.len())?;
        if variant.rejects_with.is_some() {
            say(&format!("{}: lets {passed:?} pass; rejects {rejected:?}", variant.name));
        }
    }
    Ok(table)
}

/// Returns the status of the answer to a vector.
async fn status(port: u16, vector: &Vector) -> Result<u16> {
    let answer = async {
        let (mut reading, mut writing) = TcpStream::connect(("127.0.0.1", port)).await?.into_split();
        let request = vector_request::whole(vector);
        // Envoy may answer and close the connection before it has read everything.
        let writer = tokio::spawn(async move {
            _ = writing.write_all(&request).await;
            writing
        });
        let mut line = [0; "HTTP/1.1 200".len()];
        reading.read_exact(&mut line).await?;
        writer.abort();
        let status = line.rsplit(|&byte| byte == b' ').next().unwrap_or_default();
        Ok(std::str::from_utf8(status)?.parse()?)
    };
    timeout(PATIENCE, answer).await?
}
