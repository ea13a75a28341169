//! A description of a group's state, for the error when its servers do not agree.

use super::Group;

/// How many lines of each server's log are shown.
const LINES: usize = 8;
/// The beginnings of the lines in the answer of `INFO replication` that are shown.
const SHOWN: [&str; 6] = ["role", "master_host", "master_port", "master_link", "master_sync", "slave"];

impl Group {
    pub(super) fn report(&self) -> String {
        let mut text = format!("primaries that the servers agree on: {:?}\n", self.agreed());
        for server in &self.servers {
            let info = server.ask::<String>(&["INFO", "replication"]);
            let info = info.unwrap_or_else(|error| format!("role: unknown, {error}"));
            let lines: Vec<_> = info.lines().filter(|line| SHOWN.iter().any(|name| line.starts_with(name))).collect();
            text.push_str(&format!("{}: {}\n", server.port(), lines.join(" ")));
        }
        for server in self.servers.iter().chain(&self.sentinels) {
            text.push_str(&format!("last lines of {}:\n{}\n", server.port(), server.process.last_lines(LINES)));
        }
        text
    }
}
