//! Any bytes as a body: the reader accepts, rejects and reads the same as serde_json.
#![no_main]

use libfuzzer_sys::fuzz_target;

#[path = "../../tests/reference/mod.rs"]
mod reference;

fuzz_target!(|body: &[u8]| {
    if let Err(difference) = reference::compare(body) {
        panic!("{difference}");
    }
});
