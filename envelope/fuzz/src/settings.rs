//! Any bytes as the filter's configuration: it is used or refused by name, and never used where it is no JSON.
#![no_main]

use filter::settings::Settings;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|json: &[u8]| {
    let reference = serde_json::from_slice::<serde_json::Value>(json);
    match Settings::parse(json) {
        Ok(settings) => {
            let read = reference.expect("what we use is JSON");
            assert_eq!(read["build"], settings.build.as_str());
            assert_eq!(read["proof"], settings.proof.as_str());
            if let Some(depth) = read["policy"]["max_depth"].as_u64() {
                assert_eq!(depth, u64::from(settings.policy.max_depth));
            }
        }
        Err(error) => assert!(!error.problem.is_empty()),
    }
});
