//! The backend with one of its protections taken out, to show that the chaos suite notices. Built for that alone.

use std::process::ExitCode;

fn main() -> ExitCode {
    backend::main()
}
