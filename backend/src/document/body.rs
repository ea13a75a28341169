//! A document as a request's body, with something before and something after it.

use std::{
    io::{self, Read},
    pin::Pin,
    task::{Context, Poll, ready},
};

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use tokio::task::{JoinHandle, spawn_blocking};

use super::{Document, Kept, PIECE, Part};

/// The body, read while it is sent. Its length is known from the start.
pub struct DocumentBody {
    before: Option<Bytes>,
    document: Document,
    after: Option<Bytes>,
    reading: Option<JoinHandle<io::Result<Bytes>>>,
}

impl DocumentBody {
    /// `before`, the document, and `after`.
    pub fn new(before: impl Into<Bytes>, document: Document, after: impl Into<Bytes>) -> Self {
        Self { before: Some(before.into()), document, after: Some(after.into()), reading: None }
    }

    /// All of it, where it is small enough to be in memory; otherwise the body back.
    ///
    /// # Errors
    /// The body, where some of it is in a file.
    pub fn into_bytes(self) -> Result<Bytes, Self> {
        let Self { before, document, after, reading } = self;
        match document {
            Document(Kept::Memory(bytes)) => {
                Ok([before.unwrap_or_default(), bytes, after.unwrap_or_default()].concat().into())
            }
            document => Err(Self { before, document, after, reading }),
        }
    }

    /// Gives all of it to `take`, piece by piece, without using it up.
    ///
    /// # Errors
    /// Where the file cannot be read.
    pub async fn inspect<T: Send + 'static>(
        &self,
        mut inspector: T,
        take: impl Fn(&mut T, &[u8]) + Send + 'static,
    ) -> io::Result<T> {
        let after = self.after.clone().unwrap_or_default();
        take(&mut inspector, &self.before.clone().unwrap_or_default());
        let read = move |reader: &mut dyn Read| -> io::Result<T> {
            let mut piece = vec![0; PIECE];
            loop {
                match reader.read(&mut piece)? {
                    0 => break,
                    read => take(&mut inspector, &piece[..read]),
                }
            }
            take(&mut inspector, &after);
            Ok(inspector)
        };
        self.document.clone().read(read).await?
    }
}

impl Body for DocumentBody {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, io::Error>>> {
        let this = &mut *self;
        if let Some(before) = this.before.take() {
            return Poll::Ready(Some(Ok(Frame::data(before))));
        }
        if let Some(reading) = &mut this.reading {
            let read = ready!(Pin::new(reading).poll(context)).map_err(io::Error::other);
            this.reading = None;
            return Poll::Ready(Some(read.and_then(|piece| piece).map(Frame::data)));
        }
        match &mut this.document {
            Document(Kept::File(file, range)) if !range.is_empty() => {
                let end = range.end.min(range.start + PIECE as u64);
                let mut part = Part { file: file.clone(), range: range.start..end };
                range.start = end;
                this.reading = Some(spawn_blocking(move || {
                    let mut piece = Vec::with_capacity(PIECE);
                    part.read_to_end(&mut piece)?;
                    Ok(piece.into())
                }));
                self.poll_frame(context)
            }
            Document(Kept::Memory(bytes)) if !bytes.is_empty() => {
                Poll::Ready(Some(Ok(Frame::data(std::mem::take(bytes)))))
            }
            _ => Poll::Ready(this.after.take().map(|after| Ok(Frame::data(after)))),
        }
    }

    fn size_hint(&self) -> SizeHint {
        let around = [&self.before, &self.after].into_iter().flatten().map(|bytes| bytes.len() as u64).sum::<u64>();
        SizeHint::with_exact(around + self.document.len())
    }
}
