//! Rehearses a build in a temporary Envoy before anybody depends on it.
//!
//! The temporary Envoy loads the module twice: with the default policy, to send the golden vectors
//! through it, and with the settings to publish, which Envoy only has to accept. There is no
//! backend: Envoy itself answers the requests that pass the filter.

use std::{
    fs,
    io::{Read, Write},
    net::{TcpListener, TcpStream},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    thread,
    time::{Duration, Instant},
};

use envelope::{
    Code,
    vectors::{self, Vector},
};
use serde_json::{Value, json};

use crate::ecds;

/// Why a build must not be published.
#[derive(Debug, thiserror::Error)]
pub enum RehearsalError {
    /// The temporary Envoy could not be run, which says nothing about the build.
    #[error("cannot run the rehearsal: {0}. Check --rehearse-with")]
    CannotRun(String),
    /// Envoy rejects the module or its settings.
    #[error("Envoy rejected the build in the rehearsal: {0}")]
    NotTaken(String),
    /// A golden vector did not get its expected verdict.
    #[error("the build gives the wrong verdict on the golden vector \"{vector}\": expected {expected}, got {actual}")]
    WrongVerdict {
        /// The vector's name.
        vector: String,
        /// The expected verdict.
        expected: String,
        /// The build's verdict.
        actual: String,
    },
    /// The resource omits a capability that the filter needs.
    #[error("the resource omits the capability `{0}`, without which the filter could let requests pass unjudged")]
    MissingCapability(&'static str),
}

/// The longest time until the temporary Envoy listens, and until each answer.
const PATIENCE: Duration = Duration::from_secs(15);

/// Rehearses a build, and returns the number of golden vectors that got their expected verdict.
///
/// # Errors
/// If the build must not be published, or cannot be rehearsed.
pub fn rehearse(envoy: &Path, response: &Value) -> Result<usize, RehearsalError> {
    if let Some(missing) = ecds::missing_capability(response) {
        return Err(RehearsalError::MissingCapability(missing));
    }
    let vectors = vectors::all().map_err(RehearsalError::CannotRun)?;
    let usual: Vec<_> = vectors.iter().filter(|vector| vector.policy == json!({})).collect();
    let stage = Stage::set(envoy, response)?;
    for vector in &usual {
        stage.play(vector)?;
    }
    Ok(usual.len())
}

/// The temporary Envoy. Dropping it kills it and removes its directory.
struct Stage {
    envoy: Child,
    port: u16,
    folder: PathBuf,
}

impl Stage {
    fn set(envoy: &Path, response: &Value) -> Result<Self, RehearsalError> {
        let cannot = |error: std::io::Error| RehearsalError::CannotRun(error.to_string());
        let port = TcpListener::bind("127.0.0.1:0").and_then(|listener| listener.local_addr()).map_err(cannot)?.port();
        let folder = std::env::temp_dir().join(format!("guardctl-{}-{port}", std::process::id()));
        fs::create_dir_all(&folder).map_err(cannot)?;
        let config = folder.join("rehearsal.json");
        fs::write(&config, bootstrap(port, response).to_string()).map_err(cannot)?;
        let log = fs::File::create(folder.join("log")).map_err(cannot)?;
        let envoy = Command::new(envoy)
            .arg("-c")
            .arg(&config)
            .args(["--disable-hot-restart", "--concurrency", "1", "--log-level", "error"])
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(log)
            .spawn()
            .map_err(cannot)?;
        let mut stage = Self { envoy, port, folder };
        stage.wait()?;
        Ok(stage)
    }

    fn wait(&mut self) -> Result<(), RehearsalError> {
        let deadline = Instant::now() + PATIENCE;
        while TcpStream::connect(("127.0.0.1", self.port)).is_err() {
            if self.envoy.try_wait().ok().flatten().is_some() || Instant::now() > deadline {
                let log = fs::read_to_string(self.folder.join("log")).unwrap_or_default();
                let said = log.lines().rev().find(|line| !line.trim().is_empty()).unwrap_or("it logged nothing");
                return Err(RehearsalError::NotTaken(said.to_owned()));
            }
            thread::sleep(Duration::from_millis(20));
        }
        Ok(())
    }

    fn play(&self, vector: &Vector) -> Result<(), RehearsalError> {
        let expected = match vector.expected() {
            Ok(_) => "accepted (202)".to_owned(),
            Err(rejected) => {
                let status = Code::ALL.iter().find(|code| code.as_str() == rejected.code).map(|code| code.status());
                format!("{} ({})", rejected.code, status.unwrap_or_default())
            }
        };
        let actual = self.ask(vector).unwrap_or_else(|error| format!("no answer: {error}"));
        if actual == expected {
            return Ok(());
        }
        Err(RehearsalError::WrongVerdict { vector: vector.name.clone(), expected, actual })
    }

    fn ask(&self, vector: &Vector) -> std::io::Result<String> {
        let body = vector.body();
        let mut request =
            format!("{} {} HTTP/1.1\r\nhost: edge\r\ncontent-length: {}\r\n", vector.method, vector.path, body.len())
                .into_bytes();
        for (name, value) in vector.headers() {
            request.extend([name.as_bytes(), b": ", &value, b"\r\n"].concat());
        }
        request.extend(b"\r\n");
        request.extend(body);
        let mut socket = TcpStream::connect(("127.0.0.1", self.port))?;
        socket.set_read_timeout(Some(PATIENCE))?;
        let mut reading = socket.try_clone()?;
        // Envoy may answer and close the connection before it has read all of a large body.
        let writer = thread::spawn(move || drop(socket.write_all(&request)));
        let mut answer = Vec::new();
        let mut buffer = [0; 2_048];
        while !answer.windows(4).any(|window| window == b"\r\n\r\n") {
            match reading.read(&mut buffer)? {
                0 => break,
                read => answer.extend_from_slice(&buffer[..read]),
            }
        }
        drop(reading);
        _ = writer.join();
        let answer = String::from_utf8_lossy(&answer);
        let status = answer.split(' ').nth(1).unwrap_or("no status");
        let rejection = answer.lines().find_map(|line| line.strip_prefix("x-edge-rejection: ")).unwrap_or("accepted");
        Ok(format!("{rejection} ({status})"))
    }
}

impl Drop for Stage {
    fn drop(&mut self) {
        _ = self.envoy.kill();
        _ = self.envoy.wait();
        _ = fs::remove_dir_all(&self.folder);
    }
}

/// Returns a bootstrap with two listeners: one with the default policy, which the golden vectors go
/// through, and one with the settings to publish.
fn bootstrap(port: u16, response: &Value) -> Value {
    let published = &response["resources"][0]["typed_config"];
    let mut usual = published.clone();
    let settings = json!({ "build": "rehearsal", "proof": "a-proof-for-the-rehearsal" });
    usual["config"]["configuration"]["value"] = json!(settings.to_string());
    let listener = |name: &str, port: u16, filter: &Value| {
        json!({ "name": name, "address": { "socket_address": { "address": "127.0.0.1", "port_value": port } },
            "filter_chains": [{ "filters": [{ "name": "http", "typed_config": {
                "@type": "type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager",
                "stat_prefix": name,
                "normalize_path": true,
                "route_config": { "virtual_hosts": [{ "name": "all", "domains": ["*"], "routes": [
                    { "match": { "prefix": "/" }, "direct_response": { "status": 202 } },
                ]}]},
                "http_filters": [
                    { "name": ecds::FILTER, "typed_config": filter },
                    { "name": "router", "typed_config": {
                        "@type": "type.googleapis.com/envoy.extensions.filters.http.router.v3.Router" } },
                ],
            }}]}],
        })
    };
    json!({ "static_resources": { "listeners": [listener("usual", port, &usual), listener("published", 0, published)] } })
}
