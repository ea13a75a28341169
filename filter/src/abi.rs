//! The one host call for which the SDK's own way is too dear, and the only unsafe code of the project.
#![allow(unsafe_code, reason = "a host call is an import, and the memory that it returns is ours to free")]

use proxy_wasm::types::MapType;

#[link(wasm_import_module = "env")]
unsafe extern "C" {
    /// Allocates with the module's `malloc`, writes the map there, and then where it is and how long it is.
    fn proxy_get_header_map_pairs(map: MapType, start: *mut *mut u8, length: *mut usize) -> u32;
}

/// The request's headers, as [`pairs`](crate::pairs) reads them; none where the host has none to give.
pub(crate) fn request_headers() -> Vec<u8> {
    let (mut start, mut length) = (std::ptr::null_mut(), 0);
    // SAFETY: both pointers are valid for the time of the call, and the host keeps neither.
    let status = unsafe { proxy_get_header_map_pairs(MapType::HttpRequestHeaders, &raw mut start, &raw mut length) };
    if status != 0 || start.is_null() {
        return Vec::new();
    }
    // SAFETY: the SDK's `malloc` made `start` from a boxed slice of `length` bytes, which the host has filled and handed over.
    unsafe { Vec::from_raw_parts(start, length, length) }
}
