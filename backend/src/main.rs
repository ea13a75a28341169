//! The backend of truenroll-edge.

use std::process::ExitCode;

fn main() -> ExitCode {
    backend::main()
}

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;
