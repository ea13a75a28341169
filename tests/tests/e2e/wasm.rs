//! The filter's own tests as WebAssembly.

use harness::tools;

#[test]
fn the_filters_tests_pass_as_webassembly_under_node() {
    let printed = tools::run_filter_tests().unwrap();
    assert!(printed.contains("every_vector_gets_its_verdict_however_its_body_arrives"), "{printed}");
    assert!(printed.contains("in_shadow_mode_every_request_passes_with_the_code_of_its_rejection"), "{printed}");
    assert!(printed.contains("test result: ok.") && printed.contains("0 failed; 0 ignored"), "{printed}");
}

#[test]
fn the_module_stays_small() {
    let bytes = std::fs::metadata(tools::wasm_filter().unwrap()).unwrap().len();
    assert!(bytes <= 200_000, "{bytes} bytes: Envoy compiles all of it for each worker");
}
