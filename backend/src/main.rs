//! The backend of truenroll-edge.

use std::process::ExitCode;

fn main() -> ExitCode {
    backend::cli::main()
}

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;
