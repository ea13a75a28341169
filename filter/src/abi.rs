//! The module's version for `guardctl`, and the one host call where the SDK's wrapper is too
//! expensive. The project's only unsafe code.
#![allow(
    unsafe_code,
    reason = "a host call is an import, the module owns the memory that it returns, and a section has to be named"
)]

use proxy_wasm::types::MapType;

const VERSION: &str = env!("CARGO_PKG_VERSION");

/// The version in a custom section of the module, where `guardctl` finds it without running the
/// module.
// SAFETY: no other section has this name, and nothing but this text is in it.
#[unsafe(link_section = "truenroll_filter_version")]
#[used]
static VERSION_SECTION: [u8; VERSION.len()] = match VERSION.as_bytes().first_chunk() {
    Some(version) => *version,
    None => [0; VERSION.len()],
};

#[link(wasm_import_module = "env")]
unsafe extern "C" {
    /// Writes the map to memory from the module's `malloc`, and its address and length to the
    /// pointers.
    fn proxy_get_header_map_pairs(map: MapType, start: *mut *mut u8, length: *mut usize) -> u32;
}

/// Returns the request headers in the format that [`pairs`](crate::pairs) reads, or nothing if the
/// host returns none.
pub(crate) fn request_headers() -> Vec<u8> {
    let mut start = std::ptr::null_mut();
    let mut length = 0;
    // SAFETY: both pointers are valid during the call, and the host keeps neither.
    let status = unsafe { proxy_get_header_map_pairs(MapType::HttpRequestHeaders, &raw mut start, &raw mut length) };
    if status != 0 || start.is_null() {
        return Vec::new();
    }
    // SAFETY: the SDK's `malloc` made `start` from a boxed slice of `length` bytes. The host has
    // filled it and passed on its ownership.
    unsafe { Vec::from_raw_parts(start, length, length) }
}
