//! The one host call where the SDK's wrapper is too expensive, and the project's only unsafe code.
#![allow(unsafe_code, reason = "a host call is an import, and the module owns the memory that it returns")]

use proxy_wasm::types::MapType;

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
