//! Metrics of this process, under the names that Prometheus' own clients use.

use std::{fmt, fs, time::SystemTime};

use prometheus_client::{
    collector::Collector,
    encoding::{DescriptorEncoder, EncodeMetric},
    metrics::{counter::ConstCounter, gauge::ConstGauge},
};
use rustix::{
    process::{Resource, getrlimit},
    time::{ClockId, clock_gettime},
};

/// Reads the metrics of this process when they are asked for. What the system does not tell is left
/// out.
#[derive(Debug)]
pub(super) struct Process {
    started_at: SystemTime,
}

impl Process {
    /// Returns the metrics of a process that has just been started.
    pub(super) fn started_now() -> Self {
        Self { started_at: SystemTime::now() }
    }
}

impl Collector for Process {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let mut encode = |name, help, metric: &dyn EncodeMetric| {
            metric.encode(encoder.encode_descriptor(name, help, None, metric.metric_type())?)
        };
        let cpu = clock_gettime(ClockId::ProcessCPUTime);
        let cpu = ConstCounter::new(cpu.tv_sec as f64 + cpu.tv_nsec as f64 / 1e9);
        encode("process_cpu_seconds", "CPU time that the process has used.", &cpu)?;
        let started = self.started_at.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        let started = ConstGauge::new(started.as_secs_f64());
        encode("process_start_time_seconds", "When the process was started.", &started)?;
        if let Some(bytes) = resident_bytes() {
            encode("process_resident_memory_bytes", "Memory of the process in RAM.", &ConstGauge::new(bytes))?;
        }
        if let Ok(files) = fs::read_dir("/proc/self/fd") {
            let open = u64::try_from(files.count()).unwrap_or(u64::MAX);
            encode("process_open_fds", "Open file descriptors.", &ConstGauge::new(open))?;
        }
        if let Some(limit) = getrlimit(Resource::Nofile).current {
            encode("process_max_fds", "Limit of open file descriptors.", &ConstGauge::new(limit))?;
        }
        Ok(())
    }
}

fn resident_bytes() -> Option<u64> {
    let status = fs::read_to_string("/proc/self/status").ok()?;
    let kib = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?.trim().strip_suffix(" kB")?;
    Some(kib.trim().parse::<u64>().ok()? * 1_024)
}
