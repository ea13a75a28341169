//! `guardctl`: publishes builds of the filter to Envoy, verifies them, and rolls them back.

use std::process::ExitCode;

fn main() -> ExitCode {
    envoy::cli::main()
}
