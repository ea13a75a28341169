//! Any bytes as a body: we accept, refuse and read as serde_json does.
#![no_main]

use libfuzzer_sys::fuzz_target;

#[path = "../../tests/reference/mod.rs"]
mod reference;

fuzz_target!(|body: &[u8]| {
    if let Err(difference) = reference::compare(body) {
        panic!("{difference}");
    }
});
