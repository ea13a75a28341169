//! A minimal server for Envoy's `ext_proc` filter that makes the same decision as our filter, in
//! native code.
//!
//! It speaks gRPC over HTTP/2. The few protobuf fields that it needs are read and written by hand.

use anyhow::{Context, Result};
use bytes::Bytes;
use envelope::{Head, Policy, Rejection, Timestamp, decide};
use h2::{RecvStream, server};
use tokio::net::{TcpListener, TcpStream};

pub(crate) async fn serve(listener: TcpListener) {
    while let Ok((socket, _)) = listener.accept().await {
        tokio::spawn(connection(socket));
    }
}

async fn connection(socket: TcpStream) -> Result<()> {
    socket.set_nodelay(true)?;
    let mut connection = server::handshake(socket).await?;
    while let Some(stream) = connection.accept().await {
        let (request, respond) = stream?;
        tokio::spawn(decide_request(request.into_body(), respond));
    }
    Ok(())
}

/// Decides about one HTTP request, which is one stream: the headers come first, then the body.
async fn decide_request(mut messages: RecvStream, mut respond: server::SendResponse<Bytes>) -> Result<()> {
    let policy = Policy::default();
    let now = || Timestamp::from_unix(4_000_000_000);
    let head = axum::http::Response::builder().header("content-type", "application/grpc").body(())?;
    let mut answers = respond.send_response(head, false)?;
    let mut claims = None;
    let mut buffer = Vec::new();
    while let Some(piece) = messages.data().await {
        let piece = piece?;
        messages.flow_control().release_capacity(piece.len())?;
        buffer.extend_from_slice(&piece);
        while let Some(message) = take_message(&mut buffer) {
            let (field, content) = Fields(&message)
                .find(|(field, _)| matches!(field, 2 | 4))
                .context("the message is neither headers nor a body")?;
            let answer = match field {
                2 => {
                    let map = Fields(content).find(|(field, _)| *field == 1).context("the message has no headers")?.1;
                    let headers = Fields(map).map(|(_, header)| header_pair(header));
                    // A request without a body ends with its headers.
                    let ends = Fields(content).any(|field| field == (3, &[1]));
                    let checked = Head::read(headers, &policy).check(&policy, now);
                    checked.and_then(|checked| {
                        if ends {
                            decide::body(&checked, b"", now, &policy)?;
                        }
                        claims = Some(checked);
                        // request_headers { response {} }
                        Ok(vec![0x0a, 0x02, 0x0a, 0x00])
                    })
                }
                _ => {
                    let body = Fields(content).find(|(field, _)| *field == 1).map(|(_, body)| body).unwrap_or_default();
                    let claims = claims.as_ref().context("a body before its headers")?;
                    decide::body(claims, body, now, &policy).map(|_| accepted())
                }
            };
            let answer = answer.unwrap_or_else(rejected);
            let mut framed = vec![0];
            framed.extend(u32::try_from(answer.len())?.to_be_bytes());
            framed.extend(answer);
            answers.send_data(framed.into(), false)?;
        }
    }
    let status = axum::http::HeaderMap::from_iter([("grpc-status".parse()?, "0".parse()?)]);
    let status: axum::http::HeaderMap = status;
    Ok(answers.send_trailers(status)?)
}

/// `request_body { response { header_mutation { set_headers { header { key, raw_value } } } } }`
fn accepted() -> Vec<u8> {
    let header = [field(1, b"x-edge-judged"), field(3, b"a-proof-for-this-machine-alone;ext;accepted")].concat();
    let mutation = field(1, &field(1, &header));
    field(3, &field(1, &field(2, &mutation)))
}

/// `immediate_response { status { code }, body }`
fn rejected(rejection: Rejection) -> Vec<u8> {
    let code = rejection.code.status();
    let status = [0x08, (code & 0x7f) as u8 | 0x80, (code >> 7) as u8];
    field(7, &[field(1, &status), field(3, rejection.to_problem_json().as_bytes())].concat())
}

fn field(number: u8, content: &[u8]) -> Vec<u8> {
    let mut bytes = vec![number << 3 | 2];
    let mut length = content.len();
    while length > 0x7f {
        bytes.push((length & 0x7f) as u8 | 0x80);
        length >>= 7;
    }
    bytes.push(length as u8);
    bytes.extend(content);
    bytes
}

fn take_message(buffer: &mut Vec<u8>) -> Option<Vec<u8>> {
    let length = u32::from_be_bytes(buffer.get(1..5)?.try_into().ok()?) as usize;
    if buffer.len() < 5 + length {
        return None;
    }
    Some(buffer.drain(..5 + length).skip(5).collect())
}

fn header_pair(header: &[u8]) -> (&[u8], &[u8]) {
    let of = |wanted: &[u64]| {
        Fields(header).find(|(field, _)| wanted.contains(field)).map(|(_, content)| content).unwrap_or_default()
    };
    (of(&[1]), of(&[2, 3]))
}

/// Iterates over the fields of a protobuf message: numbers, and those with a length.
struct Fields<'a>(&'a [u8]);

impl<'a> Iterator for Fields<'a> {
    type Item = (u64, &'a [u8]);

    fn next(&mut self) -> Option<Self::Item> {
        let key = self.varint()?;
        let begin = self.0;
        let number = self.varint()? as usize;
        let (content, rest) = match key & 7 {
            0 => begin.split_at_checked(begin.len() - self.0.len())?,
            2 => self.0.split_at_checked(number)?,
            _ => return None,
        };
        self.0 = rest;
        Some((key >> 3, content))
    }
}

impl Fields<'_> {
    fn varint(&mut self) -> Option<u64> {
        let mut number = 0;
        for shift in (0..64).step_by(7) {
            let (&byte, rest) = self.0.split_first()?;
            self.0 = rest;
            number |= u64::from(byte & 0x7f) << shift;
            if byte < 0x80 {
                return Some(number);
            }
        }
        None
    }
}
