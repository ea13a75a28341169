//! Golden vectors as requests.

use envelope::vectors::Vector;

/// Returns the head of a vector's request over HTTP/1.1, up to the header that states how long the
/// body is. The connection ends with the answer.
pub fn head(vector: &Vector) -> Vec<u8> {
    let mut head =
        format!("{} {} HTTP/1.1\r\nhost: edge\r\nconnection: close\r\n", vector.method, vector.path).into_bytes();
    for (name, value) in vector.headers() {
        head.extend([name.as_bytes(), b": ", &value, b"\r\n"].concat());
    }
    head
}

/// Returns a vector's request over HTTP/1.1, with the header Content-Length.
pub fn whole(vector: &Vector) -> Vec<u8> {
    let body = vector.body();
    [head(vector), format!("content-length: {}\r\n\r\n", body.len()).into_bytes(), body].concat()
}
