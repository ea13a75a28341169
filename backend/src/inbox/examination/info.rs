//! What a server says about itself.

use std::time::Duration;

use crate::inbox::servers::value_of;

/// What a server says about itself in its answer to `INFO`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ServerInfo {
    /// The server's address.
    pub address: String,
    /// Its version, such as `8.0.1`.
    pub version: String,
    /// How long it has been running.
    pub uptime: Duration,
    /// How many bytes its data and buffers take.
    pub used_memory: u64,
    /// The most bytes that its data may take; 0 if there is no limit.
    pub max_memory: u64,
}

impl ServerInfo {
    pub(super) fn read(address: String, info: &str) -> Self {
        let number = |name| value_of(info, name).and_then(|number| number.parse().ok()).unwrap_or_default();
        Self {
            address,
            version: value_of(info, "redis_version").unwrap_or_default().to_owned(),
            uptime: Duration::from_secs(number("uptime_in_seconds")),
            used_memory: number("used_memory"),
            max_memory: number("maxmemory"),
        }
    }

    /// Returns the first number of the version, or 0 if it is not known.
    pub fn major_version(&self) -> u32 {
        self.version.split('.').next().and_then(|major| major.parse().ok()).unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_is_read_line_by_line() {
        let info = "# Server\r\nredis_version:7.2.4\r\nuptime_in_seconds:61\r\n\r\n# Memory\r\nused_memory:1048576\r\n\
                    used_memory_human:1.00M\r\nmaxmemory:0\r\nmaxmemory_policy:noeviction\r\n";
        let read = ServerInfo::read("host:1".to_owned(), info);
        let expected = ServerInfo {
            address: "host:1".to_owned(),
            version: "7.2.4".to_owned(),
            uptime: Duration::from_secs(61),
            used_memory: 1 << 20,
            max_memory: 0,
        };
        assert_eq!((read.major_version(), read), (7, expected));
        assert_eq!(ServerInfo::read(String::new(), "garbage").major_version(), 0);
    }
}
