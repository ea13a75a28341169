//! The backend of truenroll-edge.

use std::process::ExitCode;

fn main() -> ExitCode {
    backend::cli::main()
}
