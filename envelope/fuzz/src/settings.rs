//! Any bytes as the filter's configuration: the filter accepts it, or names the invalid setting. It
//! never accepts anything but JSON.
#![no_main]

use envelope::filter_settings::Settings;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|json: &[u8]| {
    let reference = serde_json::from_slice::<serde_json::Value>(json);
    match Settings::parse(json) {
        Ok(settings) => {
            let read = reference.expect("accepted settings are JSON");
            assert_eq!(read["build"], settings.build.as_str());
            assert_eq!(read["proof"], settings.proof.as_str());
            if let Some(depth) = read["policy"]["max_depth"].as_u64() {
                assert_eq!(depth, u64::from(settings.policy.max_depth));
            }
        }
        Err(error) => assert!(!error.problem.is_empty()),
    }
});
