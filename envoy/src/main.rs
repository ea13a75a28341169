//! `guardctl`: publishes a filter build to a running Envoy, and goes back to an earlier one.

use std::process::ExitCode;

fn main() -> ExitCode {
    envoy::cli::main()
}
