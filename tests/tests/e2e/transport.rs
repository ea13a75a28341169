//! The transports over which a request can reach the edge.

use std::time::Duration;

use envelope::vectors::Vector;
use h2::client::SendRequest;
use harness::{simulator::sender::Answer, vector_request};
use serde_json::Value;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpStream, tcp::OwnedReadHalf},
    time::timeout,
};

/// A transport.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Transport {
    /// HTTP/1.1 with Content-Length.
    Http1,
    /// HTTP/1.1 with chunks of one byte.
    Http1Chunked,
    /// HTTP/2 with the body in one frame.
    Http2,
    /// HTTP/2 with one frame per byte.
    Http2Frames,
    /// HTTP/2 with trailers.
    Http2Trailers,
}

impl Transport {
    pub(crate) const ALL: [Self; 5] =
        [Self::Http1, Self::Http1Chunked, Self::Http2, Self::Http2Frames, Self::Http2Trailers];
}

/// Bodies of more bytes are sent in larger pieces, to save time.
const SMALL: usize = 2_000;
const PATIENCE: Duration = Duration::from_secs(10);

/// Sends a vector on a new connection.
pub(crate) async fn send(transport: Transport, edge: &str, vector: &Vector) -> Answer {
    let address = edge.trim_start_matches("http://");
    let answer = async {
        match transport {
            Transport::Http1 | Transport::Http1Chunked => http1(address, vector, transport).await,
            _ => http2(address, vector, transport).await,
        }
    };
    timeout(PATIENCE, answer).await.ok().flatten().unwrap_or(Answer::Unavailable)
}

fn piece(body: &[u8]) -> usize {
    if body.len() <= SMALL { 1 } else { 1_000 }
}

async fn http1(address: &str, vector: &Vector, transport: Transport) -> Option<Answer> {
    let mut request = vector_request::whole(vector);
    if transport == Transport::Http1Chunked {
        let body = vector.body();
        request = vector_request::head(vector);
        request.extend(b"transfer-encoding: chunked\r\n\r\n");
        for chunk in body.chunks(piece(&body)) {
            request.extend([format!("{:x}\r\n", chunk.len()).as_bytes(), chunk, b"\r\n"].concat());
        }
        request.extend(b"0\r\n\r\n");
    }
    let (mut reading, mut writing) = TcpStream::connect(address).await.ok()?.into_split();
    let writer = tokio::spawn(async move {
        // Envoy may answer and close the connection before it has read everything.
        _ = writing.write_all(&request).await;
        writing
    });
    let answer = read_answer(&mut reading).await;
    writer.abort();
    answer
}

/// Reads an answer up to the length that Content-Length states. Waiting for the end of the
/// connection would take a second longer: Envoy keeps it half open after it rejected a request
/// without reading all of it.
async fn read_answer(reading: &mut OwnedReadHalf) -> Option<Answer> {
    let mut bytes = Vec::new();
    loop {
        let text = String::from_utf8_lossy(&bytes);
        if let Some((head, body)) = text.split_once("\r\n\r\n") {
            let length = head.lines().find_map(|line| line.strip_prefix("content-length: "))?;
            if body.len() == length.parse::<usize>().ok()? {
                let status = head.split(' ').nth(1)?.parse().ok()?;
                return Some(Answer::read(status, &serde_json::from_str(body).unwrap_or(Value::Null)));
            }
        }
        if reading.read_buf(&mut bytes).await.ok()? == 0 {
            return None;
        }
    }
}

async fn http2(address: &str, vector: &Vector, transport: Transport) -> Option<Answer> {
    let socket = TcpStream::connect(address).await.ok()?;
    let (client, connection) = h2::client::handshake(socket).await.ok()?;
    let connection = tokio::spawn(connection);
    let answer = exchange(client, vector, transport).await;
    connection.abort();
    answer
}

async fn exchange(client: SendRequest<bytes::Bytes>, vector: &Vector, transport: Transport) -> Option<Answer> {
    let uri = format!("http://edge{}", vector.path);
    let mut request = axum::http::Request::builder().method(vector.method.as_str()).uri(uri);
    for (name, value) in vector.headers() {
        request = request.header(name, value);
    }
    let body = vector.body();
    let trailers = transport == Transport::Http2Trailers;
    let ends_at_once = body.is_empty() && !trailers;
    let mut client = client.ready().await.ok()?;
    let (answer, mut stream) = client.send_request(request.body(()).ok()?, ends_at_once).ok()?;
    if !ends_at_once {
        let piece = if transport == Transport::Http2Frames { piece(&body) } else { body.len().max(1) };
        let mut pieces = body.chunks(piece).peekable();
        while let Some(chunk) = pieces.next() {
            let is_last = pieces.peek().is_none() && !trailers;
            // Envoy may answer and reset the stream before it has read everything.
            if stream.send_data(chunk.to_vec().into(), is_last).is_err() {
                break;
            }
        }
        if trailers {
            let checksum = [("x-checksum".parse().ok()?, "1".parse().ok()?)];
            _ = stream.send_trailers(checksum.into_iter().collect());
        }
    }
    let answer = answer.await.ok()?;
    let status = answer.status().as_u16();
    let mut text = Vec::new();
    let mut body = answer.into_body();
    while let Some(Ok(piece)) = body.data().await {
        _ = body.flow_control().release_capacity(piece.len());
        text.extend(piece);
    }
    Some(Answer::read(status, &serde_json::from_slice(&text).unwrap_or(Value::Null)))
}
