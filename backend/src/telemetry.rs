//! Metrics and logging. Every metric is named here; labels come from closed sets, and nothing is
//! personal data.

use tracing::level_filters::LevelFilter;
use tracing_subscriber::{fmt, layer::SubscriberExt, reload, util::SubscriberInitExt};

use crate::config::{Log, LogFormat, LogLevel};

mod labels;
mod log_limit;
mod metrics;
mod process;

pub use labels::{
    BuildLabels, CallLabels, EventLabels, ExpiredLabels, FailureLabels, FeatureLabels, HandledLabels, IngestLabels,
    ReloadLabels,
};
pub use log_limit::LogLimit;
pub use metrics::{METRICS_MEDIA_TYPE, Metrics};

/// Changes the level of what is logged.
pub type SetLevel = Box<dyn Fn(LogLevel) + Send>;

/// Starts logging to standard error.
pub fn start_logging(settings: &Log) -> SetLevel {
    let (level, handle) = reload::Layer::new(filter(settings.level));
    let lines = fmt::layer().with_writer(std::io::stderr).with_target(false);
    let registry = tracing_subscriber::registry().with(level);
    match settings.format {
        LogFormat::Text => registry.with(lines).init(),
        LogFormat::Json => registry.with(lines.json().flatten_event(true)).init(),
    }
    // It fails only if logging has ended.
    Box::new(move |level| _ = handle.reload(filter(level)))
}

fn filter(level: LogLevel) -> LevelFilter {
    match level {
        LogLevel::Error => LevelFilter::ERROR,
        LogLevel::Warn => LevelFilter::WARN,
        LogLevel::Info => LevelFilter::INFO,
        LogLevel::Debug => LevelFilter::DEBUG,
        LogLevel::Trace => LevelFilter::TRACE,
    }
}
