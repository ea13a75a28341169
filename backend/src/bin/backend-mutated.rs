//! The backend with one protection removed, to show that a test notices its absence. The environment
//! variable `BACKEND_MUTATION` names the protection. Built for tests only.

use std::process::ExitCode;

fn main() -> ExitCode {
    backend::main()
}
